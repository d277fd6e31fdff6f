"""The run of an image in Prefect, as the commands for jobs know it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from tasks.request.field_types import owner_of

WAITING, RUNNING, CANCELLING = "WAITING", "RUNNING", "CANCELLING"
"""The statuses of an image whose run has not ended."""

UNFINISHED = frozenset({WAITING, RUNNING, CANCELLING})


@dataclass(frozen=True)
class ImageRun:
    """The newest run of an image of a job.

    Attributes:
        id: Of the flow run.
        job_id: The job.
        image_url: The image.
        request: The message as JSON.
        status: WAITING, RUNNING, CANCELLING, CANCELLED, SUCCESS, PARTIAL or FAILED.
        text: What it waits for, or its outcome.
        began: When it began; None before.
        changed: When its state changed last.
        deployment: Id of its deployment, if it has one.
        startup: Seconds of each stage of its start by name, as far as they are known.
    """

    id: UUID
    job_id: str
    image_url: str
    request: dict[str, Any]
    status: str
    text: str
    began: datetime | None
    changed: datetime | None
    deployment: UUID | None
    startup: dict[str, float]

    @property
    def owner(self) -> str:
        """Whose job it is; empty if nobody is named."""
        tags = self.request.get("tags")
        return str(owner_of(tags) or "") if isinstance(tags, dict) else ""

    @property
    def priority(self) -> int:
        """The priority of its job."""
        return int(self.request.get("priority") or 0)

    @property
    def unfinished(self) -> bool:
        """Whether it waits or works."""
        return self.status in UNFINISHED
