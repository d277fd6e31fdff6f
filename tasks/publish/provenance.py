"""What every published file says of the run that it came from."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Self

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, field_validator

from tasks.imagery import Image
from tasks.request import Request
from tasks.results import coverage
from tasks.results.coverage import TileState


class Provenance(BaseModel):
    """The origin of published files: who has one of them can tell whether it is complete.

    GeoJSON has it as the foreign member `swath` of its collection (RFC 7946 §6.1), Parquet as the
    value of `swath` in the metadata of the file, both in JSON.

    Attributes:
        job: Job of the request.
        image: URL of the image.
        etag: Version of the image, as in `tasks.imagery.Image`.
        status: SUCCESS, PARTIAL or FAILED.
        covered: Share (0 to 1) of the region of interest that did not fail.
        tiles: Number of tiles in each state.
        request: SHA-256 digest of the request for this image, in hexadecimal digits.
        time: Start of the run and time of inference of the features, ISO 8601 in UTC to the second,
            such as `2026-11-22T10:17:48Z`. Repeating the publication gives the same bytes.
        version: Version of Swath.
        prepared: What was done to each tile before it was sent, with all numbers; absent if tiles
            were sent as they are stored.
    """

    model_config = ConfigDict(frozen=True)

    job: str
    image: str
    etag: str
    status: str
    covered: float
    tiles: dict[str, int]
    request: str
    time: str
    version: str = Field(default_factory=lambda: version("swath"))
    prepared: dict[str, Any] | None = Field(None, exclude_if=lambda value: value is None)

    @field_validator("time")
    @classmethod
    def _check_offset(cls, time: str) -> str:
        """Refuse a time without a UTC offset, which would be ambiguous."""
        if datetime.fromisoformat(time).tzinfo is None:
            raise ValueError(f"time {time!r} needs an offset: add a Z.")
        return time

    @classmethod
    def of(
        cls,
        request: Request,
        image: Image,
        ledger: pa.Table,
        status: str,
        started: datetime,
        *,
        prepared: dict[str, Any] | None = None,
    ) -> Self:
        """The provenance of an image's files.

        Args:
            request: The message.
            image: One of its images.
            ledger: Table of `coverage.MEASURED`.
            status: SUCCESS, PARTIAL or FAILED.
            started: Start of the run.
            prepared: What was done to each tile before it was sent; None for nothing.
        """
        return cls(
            job=request.job_id,
            image=image.url,
            etag=image.etag,
            status=status,
            covered=1 - coverage.shares(ledger)[TileState.FAILED],
            tiles=coverage.count(ledger),
            request=request.identity(image.url),
            time=started.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            prepared=prepared,
        )

    @property
    def json_bytes(self) -> bytes:
        """A JSON object without line breaks."""
        return self.model_dump_json().encode()
