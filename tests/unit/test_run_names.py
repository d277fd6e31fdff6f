"""The name and tags of an image's run, and the status of its end."""

import pytest
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Crashed, Failed, Running
from prefect.utilities.templating import find_placeholders

from flows.announce import status_of
from flows.run_names import infrastructure_labels, run_name, tags
from tasks.request import ImageProcessor, Request

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
    assert run_name(url, "job-42") == "harbour.tif - job-42"


def test_runs_are_tagged_with_job_and_model() -> None:
    assert tags(REQUEST) == ["job:job-42", "model:ships"]


def test_what_works_a_run_is_labelled_with_its_job_and_the_tags_of_the_message() -> None:
    request = REQUEST.model_copy(update={"tags": {"owner": "maritime"}})
    of_deployment = {"cpu": 2048, "labels": {"owner": "all", "stage": "test"}}
    assert infrastructure_labels(request, "s3://images/harbour.tif", of_deployment) == {
        "labels": {
            "owner": "maritime",
            "stage": "test",
            "swath:job": "job-42",
            "swath:image": "harbour.tif",
        }
    }
    (labels,) = infrastructure_labels(REQUEST, f"/data/{'a' * 300}", None).values()
    assert max(map(len, labels.values())) == 256


def test_prefect_replaces_nothing_in_the_labels_of_a_message() -> None:
    secret = "{{ prefect.blocks.secret.password }}"
    request = REQUEST.model_copy(update={"job_id": secret})
    found = infrastructure_labels(request, f"/data/{{{secret}.tif", {"labels": {"a": secret}})
    labels = found["labels"]
    assert labels.pop("a") == secret  # the operator's own
    assert not find_placeholders(labels)
    assert labels["swath:job"] == "-- prefect.blocks.secret.password }}"


@pytest.mark.parametrize(
    ("kind", "name", "short"),
    [
        ("SM_ENDPOINT", "ships-v2", "ships-v2"),
        ("BUILTIN", "bright-targets", "bright-targets"),
        ("ONNX", "s3://models/2026/yolox.onnx", "yolox.onnx"),
        ("ONNX", "/data/yolox.onnx", "yolox.onnx"),
        ("HTTP_ENDPOINT", "http://127.0.0.1:8080/ships/invocations", "ships"),
        ("HTTP_ENDPOINT", "https://me:secret@models.example/ships?key=secret", "ships"),
        (
            "HTTP_ENDPOINT",
            "http://me:secret@models.example:8080/invocations",
            "models.example:8080",
        ),
        ("HTTP_ENDPOINT", "http://models.example/models/ships/predict", "ships"),
        ("OIP_ENDPOINT", "http://triton:8000/v2/models/ships", "ships"),
        ("OIP_ENDPOINT", "http://triton:8000/v2/models/ships/versions/3", "ships"),
        ("OIP_ENDPOINT", "http://triton:8000/v2/models/ships/infer", "ships"),
    ],
)
def test_the_short_name_of_a_model_is_what_names_it(kind: str, name: str, short: str) -> None:
    assert ImageProcessor.model_validate({"type": kind, "name": name}).short_name == short


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (Completed(), "SUCCESS"),
        (Failed(name="Partial"), "PARTIAL"),
        (Completed(name="Partial"), "PARTIAL"),  # of an earlier version
        (Failed(), "FAILED"),
        (Crashed(), "FAILED"),
        (Cancelled(), "FAILED"),
        (Running(), "FAILED"),
        (None, "FAILED"),
    ],
)
def test_the_final_state_of_a_run_gives_the_status(state: State | None, status: str) -> None:
    assert status_of(state) == status
