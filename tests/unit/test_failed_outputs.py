"""One output or format of several fails: PARTIAL with the reason; another run does it alone."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.job import check_plan, work_image
from tasks.job.earlier import completed_earlier
from tasks.records.record import Recorder
from tasks.reporting.summary import Summary
from tasks.request import Request
from tasks.settings import settings
from tests.job_scene import paint, request
from tests.publications import assert_whole


@pytest.fixture
def allowed(tmp_path: Path) -> Iterator[Path]:
    """A folder that requests may name images and outputs in."""
    with settings.override(local_roots=[tmp_path], work_uri=str(tmp_path / "work")):
        yield tmp_path


def asked_for(allowed: Path, *names: str, parquet_alone: str = "") -> Request:
    """A request with an output of files in each folder."""
    outputs = [
        {"type": "File", "path": str(allowed / name)}
        | ({"formats": ["parquet"]} if name == parquet_alone else {})
        for name in names
    ]
    return request(paint(allowed / "scene.tif"), allowed, outputs=outputs)


def recorded(asked: Request) -> Summary:
    """The outcome of a run that writes its record."""
    url = asked.image_urls[0]
    plan, recorder = check_plan(asked, url), Recorder(asked.job_id, url, "run")
    recorder.began(asked)
    summary = work_image(asked, url)
    recorder.finished(summary, plan.identity, plan.image.etag)
    return summary


def block(folder: Path) -> Path:
    """A folder in the place of a file: it can be neither replaced nor removed."""
    blocked = folder / "scene.tif.geojson"
    (blocked / "x").mkdir(parents=True)
    return blocked


def unblock(blocked: Path) -> None:
    (blocked / "x").rmdir()
    blocked.rmdir()


def test_the_job_is_partial_with_the_reason_and_the_other_output_is_whole(allowed: Path) -> None:
    asked = asked_for(allowed, "a", "b")
    blocked = block(allowed / "b")
    summary = work_image(asked, asked.image_urls[0])
    assert summary.status == "PARTIAL"
    (failed,) = summary.failed_outputs
    assert (failed.index, summary.covered) == (1, 1.0)
    assert f"outputs[1] is not published: Cannot write {blocked}" in summary.message
    assert "`swath publish job-1` publishes that alone, without calling" in summary.message
    assert assert_whole(str(allowed / "a"), "scene.tif")["status"] == "SUCCESS"
    assert {Path(uri).parent for uri in summary.outputs.values()} == {allowed / "a"}


def test_another_run_publishes_to_the_output_that_failed_alone(allowed: Path) -> None:
    asked = asked_for(allowed, "a", "b", "c", parquet_alone="c")
    blocked = block(allowed / "b")
    assert len(recorded(asked).outputs) == 5
    before = {path: path.stat().st_mtime_ns for path in (allowed / "a").iterdir()}
    again = recorded(asked)  # it fails again
    assert [each.index for each in again.failed_outputs] == [1]
    unblock(blocked)
    (allowed / "c" / "scene.tif.parquet").unlink()  # that output is not whole any more
    done = recorded(asked)
    assert (done.status, done.failed_outputs, len(done.outputs)) == ("SUCCESS", [], 8)
    assert {path: path.stat().st_mtime_ns for path in (allowed / "a").iterdir()} == before
    for name in "abc":
        assert assert_whole(str(allowed / name), "scene.tif")["features"] == done.features > 0


def test_another_request_publishes_to_all_outputs(allowed: Path) -> None:
    asked = asked_for(allowed, "a", "b")
    blocked = block(allowed / "b")
    recorded(asked)
    unblock(blocked)
    step = [{"algorithm": {"algorithmType": "NMS", "iouThreshold": 0.1}}]
    other = Request.model_validate(
        asked.model_dump(mode="json", exclude_unset=True) | {"postProcessing": step}
    )
    identity = check_plan(other, other.image_urls[0]).identity
    recorded(other)
    for name in "ab":
        assert assert_whole(str(allowed / name), "scene.tif")["request"] == identity


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Have every write beyond a size of a file fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


GEOPACKAGE = 60_000
"""Bytes that every GeoPackage is larger than, and no other file of the scene."""


def of_formats(allowed: Path, **formats: Sequence[str]) -> Request:
    """A request with an output of some formats in each folder."""
    outputs = [
        {"type": "File", "path": str(allowed / name), "formats": each}
        for name, each in formats.items()
    ]
    return request(paint(allowed / "scene.tif"), allowed, outputs=outputs)


def test_a_format_that_cannot_be_written_fails_alone(allowed: Path) -> None:
    asked = of_formats(allowed, a=["geojson", "gpkg", "flatgeobuf", "stac"], b=["parquet"])
    with largest_file(GEOPACKAGE):
        summary = work_image(asked, asked.image_urls[0])
    assert summary.status == "PARTIAL"
    (failed,) = summary.failed_outputs
    assert (failed.index, failed.format) == (0, "gpkg")
    assert "gpkg of outputs[0] is not published: Cannot write " in summary.message
    assert "or point TMPDIR at a larger disk" in summary.message
    assert "`swath publish job-1` publishes that alone, without calling" in summary.message
    told = assert_whole(str(allowed / "a"), "scene.tif")
    assert list(told["failed"]) == ["gpkg"]
    kinds = {file["kind"] for file in told["files"]}
    assert kinds == {"geojson", "flatgeobuf", "style", "stac", "coverage"}
    assert not assert_whole(str(allowed / "b"), "scene.tif")["failed"]


def test_another_run_adds_the_format_that_failed_to_the_others(allowed: Path) -> None:
    asked = of_formats(allowed, a=["geojson", "gpkg", "stac"], b=["gpkg", "parquet"])
    with largest_file(GEOPACKAGE):
        first = recorded(asked)
        again = recorded(asked)  # it fails again
    for summary in (first, again):
        failed = [(each.index, each.format) for each in summary.failed_outputs]
        assert failed == [(0, "gpkg"), (1, "gpkg")]
    names = ("a/scene.tif.geojson", "a/scene.tif.coverage.parquet", "b/scene.tif.parquet")
    before = {name: (allowed / name).stat().st_mtime_ns for name in names}
    done = recorded(asked)
    assert (done.status, done.failed_outputs) == ("SUCCESS", [])
    assert {name: (allowed / name).stat().st_mtime_ns for name in names} == before
    for name, kinds in (("a", {"geojson", "gpkg", "stac"}), ("b", {"gpkg", "parquet"})):
        told = assert_whole(str(allowed / name), "scene.tif")
        assert {file["kind"] for file in told["files"]} == {*kinds, "coverage"}
        assert told["features"] == done.features > 0
    item = json.loads((allowed / "a" / "scene.tif.stac.json").read_text())
    assert item["assets"].keys() == {"geojson", "gpkg", "coverage"}
    assert completed_earlier(check_plan(asked, asked.image_urls[0])) is not None


def test_an_output_fails_if_none_of_its_formats_can_be_written(allowed: Path) -> None:
    asked = of_formats(allowed, a=["gpkg"], b=["parquet"])
    with largest_file(GEOPACKAGE):
        summary = work_image(asked, asked.image_urls[0])
    assert [(each.index, each.format) for each in summary.failed_outputs] == [(0, None)]
    assert not list((allowed / "a").glob("*.parquet"))
