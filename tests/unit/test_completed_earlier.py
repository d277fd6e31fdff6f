"""A job whose results are published already is told so; whatever is missing is done again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.cost.usage import Usage
from tasks.job import check_plan, work_image
from tasks.job.earlier import completed_earlier
from tasks.request import Request
from tasks.settings import settings
from tests.job_scene import paint, request


@pytest.fixture
def allowed(tmp_path: Path) -> Iterator[Path]:
    """A folder that requests may name images and outputs in."""
    with settings.override(local_roots=[tmp_path], work_uri=str(tmp_path / "work")):
        yield tmp_path


@pytest.fixture
def asked(allowed: Path) -> Request:
    return request(paint(allowed / "scene.tif"), allowed / "out")


def earlier(asked: Request) -> Any:
    return completed_earlier(check_plan(asked, asked.image_urls[0]))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"imageBands": [3, 1], "imageScaling": {"type": "percentile"}, "imageResolution": 0.75},
    ],
    ids=["as stored", "prepared"],
)
def test_the_outcome_is_that_of_the_earlier_run(allowed: Path, fields: dict[str, Any]) -> None:
    asked = request(paint(allowed / "scene.tif"), allowed / "out", **fields)
    assert earlier(asked) is None
    summary = work_image(asked, asked.image_urls[0])
    assert summary.usage.calls > 0
    nothing = {"seconds": None, "usage": Usage()}
    assert earlier(asked) == summary.model_copy(update=nothing)


def test_outputs_that_all_have_the_results_are_all_told(allowed: Path) -> None:
    out: list[dict[str, Any]] = [
        {"type": "File", "path": str(allowed / name)} for name in ("a", "b")
    ]
    out[1]["formats"] = ["parquet"]
    asked = request(paint(allowed / "scene.tif"), allowed, outputs=out)
    outputs = work_image(asked, asked.image_urls[0]).outputs
    assert len(outputs) == 5
    assert earlier(asked).outputs == outputs
    (allowed / "b" / "scene.tif.parquet").unlink()
    assert earlier(asked) is None


def test_results_under_the_name_of_the_job_are_found(asked: Request, allowed: Path) -> None:
    other = request(allowed / "scene.tif", allowed / "out", jobId="job-2")
    work_image(asked, asked.image_urls[0])
    outputs = work_image(other, other.image_urls[0]).outputs
    assert earlier(other).outputs == outputs
    assert {Path(uri).name.startswith("scene.tif.job-2.") for uri in outputs.values()} == {True}


def _replace_image(out: Path) -> None:
    paint(out.parent / "scene.tif", height=701)


def _remove_file(out: Path) -> None:
    (out / "scene.tif.parquet").unlink()


def _shorten_file(out: Path) -> None:
    path = out / "scene.tif.geojson"
    path.write_bytes(path.read_bytes()[:-1])


def _manifest(**fields: object) -> Callable[[Path], None]:
    def change(out: Path) -> None:
        path = out / "scene.tif.swath.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


@pytest.mark.parametrize(
    "change",
    [
        _replace_image,
        _remove_file,
        _shorten_file,
        _manifest(state="publishing"),
        _manifest(status="PARTIAL"),
        _manifest(job="job-2"),
        _manifest(request="0" * 64),
        lambda out: (out / "scene.tif.swath.json").write_text("{"),
    ],
    ids=["image", "no file", "short", "publishing", "partial", "job", "request", "no manifest"],
)
def test_what_is_not_whole_or_not_of_this_job_is_done_again(
    asked: Request, allowed: Path, change: Callable[[Path], None]
) -> None:
    work_image(asked, asked.image_urls[0])
    change(allowed / "out")
    assert earlier(asked) is None
    again = work_image(asked, asked.image_urls[0])
    assert earlier(asked) == again.model_copy(update={"seconds": None, "usage": Usage()})


def test_another_request_is_done(asked: Request, allowed: Path) -> None:
    work_image(asked, asked.image_urls[0])
    step = [{"algorithm": {"algorithmType": "NMS", "iouThreshold": 0.1}}]
    assert earlier(request(allowed / "scene.tif", allowed / "out", postProcessing=step)) is None
    assert earlier(asked) is not None
