"""What the commands for jobs change in a job's message, and which images they mean."""

from __future__ import annotations

from typing import Any

import pytest

from deployments.jobs.changes import with_formats, with_merging
from deployments.jobs.choice import chosen
from deployments.run.merging import MergingOptions
from tasks.errors import RequestError

OLD = {
    "algorithmType": "SOFT_NMS",
    "iouThreshold": 0.6,
    "sigma": 0.4,
    "skipBoxThreshold": 0.1,
    "classThresholds": {"ship": 0.3},
}
URLS = ["s3://a/june/x.tif", "s3://a/july/x.tif", "s3://a/y.tif"]


def merged(**options: Any) -> dict[str, Any]:
    """The algorithm of a message after options of `swath remerge`."""
    request = {"jobId": "job-1", "postProcessing": [{"algorithm": OLD}]}
    changed = with_merging(request, MergingOptions(**options))
    assert request == {"jobId": "job-1", "postProcessing": [{"algorithm": OLD}]}
    assert changed.pop("jobId") == "job-1"
    ((step,),) = changed.values()
    algorithm: dict[str, Any] = step["algorithm"]
    return algorithm


def test_options_that_are_not_given_stay_as_they_were() -> None:
    assert merged() == OLD
    assert merged(iou=0.2) == OLD | {"iouThreshold": 0.2}
    assert merged(classes=("ship",)) == OLD | {"classes": ["ship"]}


def test_scores_replace_all_scores() -> None:
    without = {name: OLD[name] for name in ("algorithmType", "iouThreshold", "sigma")}
    assert merged(conf=("0.5",)) == without | {"skipBoxThreshold": 0.5}
    assert merged(conf=("barge=0.5",)) == without | {"classThresholds": {"barge": 0.5}}


def test_another_algorithm_has_its_own_thresholds() -> None:
    scores = {name: OLD[name] for name in ("skipBoxThreshold", "classThresholds")}
    assert merged(merge="DISSOLVE") == scores | {"algorithmType": "DISSOLVE"}
    assert merged(merge="SOFT_NMS") == OLD


def test_the_measure_stays_with_the_algorithm_that_it_is_for() -> None:
    by_smaller = {"postProcessing": [{"algorithm": {"measure": "IOS", "iouThreshold": 0.5}}]}
    for options, expected in (
        ({"conf": ("0.4",)}, {"measure": "IOS", "iouThreshold": 0.5, "skipBoxThreshold": 0.4}),
        ({"merge": "WBF"}, {"algorithmType": "WBF"}),
        ({"measure": "IOU"}, {"measure": "IOU", "iouThreshold": 0.5}),
    ):
        changed = with_merging(by_smaller, MergingOptions(**options))
        assert changed["postProcessing"] == [{"algorithm": expected}]


def test_a_message_without_post_processing_gets_one() -> None:
    changed = with_merging({"jobId": "job-1"}, MergingOptions(iou=0.5))
    assert changed["postProcessing"] == [{"algorithm": {"iouThreshold": 0.5}}]
    assert with_merging({"jobId": "job-1"}, MergingOptions()) == {"jobId": "job-1"}


def test_formats_are_those_of_every_output_of_files() -> None:
    file, stream = {"type": "File", "path": "/a"}, {"type": "Kinesis", "stream": "s"}
    request = {"outputs": [file, stream]}
    assert with_formats(request, ()) == request
    changed = with_formats(request, ("geojson,", "parquet"))
    formats = ["geojson", "parquet"]
    assert changed == {"outputs": [file | {"formats": formats}, stream]}
    with pytest.raises(RequestError, match="--formats: names no format; give geojson,parquet"):
        with_formats(request, (",",))


def test_an_image_is_named_by_its_url_or_its_file_name() -> None:
    assert chosen(None, URLS) == sorted(URLS)
    assert chosen("s3://a/june/x.tif", URLS) == ["s3://a/june/x.tif"]
    assert chosen("y.tif", URLS) == ["s3://a/y.tif"]


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("x.tif", "'x.tif' is the name of several images; give one of s3://a/july/x.tif, "),
        ("z.tif", "'z.tif' is no image of the job; give one of s3://a/july/x.tif, "),
    ],
)
def test_a_name_that_means_not_one_image_is_refused(image: str, text: str) -> None:
    with pytest.raises(RequestError, match=text):
        chosen(image, URLS)
