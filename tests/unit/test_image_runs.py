"""The name and tags of an image's run, and the status of its end."""

import time

import pytest
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Crashed, Failed, Running

from flows.announce import status_of
from flows.image_runs import run_name, tags
from flows.progress import _Rate
from tasks.request import Request

REQUEST = Request.model_validate(
    {
        "jobId": "job-42",
        "imageUrls": ["s3://images/harbour.tif"],
        "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
        "imageProcessor": {"name": "ships", "type": "SM_ENDPOINT"},
    }
)


@pytest.mark.parametrize("url", ["s3://images/2024/harbour.tif", "/data/harbour.tif"])
def test_a_run_is_named_after_its_image_and_job(url: str) -> None:
    assert run_name(url, "job-42") == "harbour.tif · job-42"


def test_runs_are_tagged_with_job_and_model() -> None:
    assert tags(REQUEST) == ["job:job-42", "model:ships"]


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (Completed(), "SUCCESS"),
        (Completed(name="Partial"), "PARTIAL"),
        (Failed(), "FAILED"),
        (Crashed(), "FAILED"),
        (Cancelled(), "FAILED"),
        (Running(), "FAILED"),
        (None, "FAILED"),
    ],
)
def test_the_final_state_of_a_run_gives_the_status(state: State | None, status: str) -> None:
    assert status_of(state) == status


def test_progress_has_the_rate_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 130.0, 135.0, 140.0, 150.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    rate = _Rate(tiles=400)
    told = [rate.text(done) for done in (0, 40, 40, 140, 400)]
    assert told == [
        "0 of 400 tiles",  # before the first are done, runs are only starting
        "40 of 400 tiles",
        "40 of 400 tiles",
        "140 of 400 tiles · 10 tiles/s · 26 s left",
        "400 of 400 tiles",
    ]
