"""Regions of ONNX models may have a deployment of their own."""

from __future__ import annotations

import pytest

from tasks.planning.region_deployment import onnx_deployment, region_deployment
from tasks.request import Request
from tasks.settings import settings

ELSEWHERE, WITH_GPUS = "region/region-ecs", "region/region-ecs-gpu"


def request(kind: str, name: str) -> Request:
    return Request.model_validate(
        {
            "jobId": "job-1",
            "imageUrls": ["s3://images/a.tif"],
            "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
            "imageProcessor": {"name": name, "type": kind},
        }
    )


ONNX = request("ONNX", "s3://models/m.onnx")
HTTP = request("HTTP_ENDPOINT", "https://models.example.org/m")


@pytest.mark.parametrize("elsewhere", [ELSEWHERE, None])
def test_only_onnx_models_run_on_the_machines_for_them(elsewhere: str | None) -> None:
    with settings.override(region_deployment=elsewhere, onnx_region_deployment=WITH_GPUS):
        assert region_deployment(ONNX) == onnx_deployment(ONNX) == WITH_GPUS
        assert (region_deployment(HTTP), onnx_deployment(HTTP)) == (elsewhere, None)


def test_without_machines_of_their_own_onnx_models_run_as_others_do() -> None:
    with settings.override(region_deployment=ELSEWHERE, onnx_region_deployment=None):
        assert region_deployment(ONNX) == region_deployment(HTTP) == ELSEWHERE
        assert onnx_deployment(ONNX) is None
