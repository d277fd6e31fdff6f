"""A large request is given to the runs of regions by the name of an object, a small one itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from flows.stored_request import StoredRequest, as_parameter, read_request
from tasks.errors import PublishError
from tasks.request import Request

PARAMETER: TypeAdapter[Request | StoredRequest] = TypeAdapter(Request | StoredRequest)


def request(corners: int) -> Request:
    """A request whose region of interest has many corners."""
    ring = [f"{number * 1e-6:.6f} {number % 2 * 1e-6:.6f}" for number in range(corners)]
    polygon = f"POLYGON (({', '.join([*ring, '0 1', ring[0]])}))"
    return Request.model_validate(
        {
            "jobId": "job-1",
            "imageUrls": ["s3://images/a.tif"],
            "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
            "imageProcessor": {"name": "ships", "type": "SM_ENDPOINT"},
            "regionOfInterest": polygon,
        }
    )


def given(parameter: dict[str, Any]) -> Request:
    """The request as a run reads it, from a parameter that Prefect kept as JSON."""
    return read_request(PARAMETER.validate_python(parameter))


@pytest.mark.parametrize("corners", [10, 3000])
def test_a_run_gets_the_request_that_was_sent(tmp_path: Path, corners: int) -> None:
    sent = request(corners)
    parameter = as_parameter(sent, str(tmp_path))
    assert given(parameter) == sent
    assert given(as_parameter(sent, str(tmp_path))) == sent  # of a second region
    assert parameter["imageProcessor"]["name"] == "ships"


def test_a_large_request_is_stored_once_and_its_parameter_is_small(tmp_path: Path) -> None:
    for _ in range(3):
        assert len(str(as_parameter(request(3000), str(tmp_path)))) < 1000
    assert len(list(tmp_path.iterdir())) == 1


def test_a_request_that_is_gone_is_named(tmp_path: Path) -> None:
    parameter = as_parameter(request(3000), str(tmp_path))
    (stored,) = tmp_path.iterdir()
    stored.unlink()
    with pytest.raises(PublishError, match=stored.name):
        given(parameter)
