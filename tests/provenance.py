"""The provenance of results that tests publish without a run."""

from __future__ import annotations

from typing import Any

from tasks.publish import Provenance


def provenance(**fields: Any) -> Provenance:
    """The provenance of job-1 and an image in S3, unless fields say otherwise."""
    return Provenance.model_validate(
        {
            "job": "job-1",
            "image": "s3://images/x.tif",
            "etag": "e1",
            "status": "SUCCESS",
            "covered": 1.0,
            "tiles": {"inferred": 2, "blank": 0, "outside": 0, "failed": 0},
            "request": "0" * 64,
            "time": "2026-11-22T10:17:48Z",
        }
        | fields
    )
