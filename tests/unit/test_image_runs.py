"""The name and tags of an image's run, and the status of its end."""

import pytest
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Crashed, Failed, Running

from flows.announce import status_of
from flows.image_runs import run_name, tags
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
