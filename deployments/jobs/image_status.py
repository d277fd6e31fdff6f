"""Where an image of a job stands, by its run in Prefect and by its record."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from deployments.jobs.image_run import CANCELLING, RUNNING, UNFINISHED, WAITING, ImageRun
from tasks.records.record import CANCELLED, ImageRecord
from tasks.reporting.rate import parse_tiles
from tasks.reporting.status import JobStatus

STATUSES = (
    *(RUNNING, CANCELLING, WAITING),
    *(str(JobStatus.FAILED), CANCELLED, str(JobStatus.PARTIAL), str(JobStatus.SUCCESS)),
)
"""All statuses; a job has the first of them that one of its images has."""


class ImageStatus(BaseModel):
    """Where an image of a job stands.

    Attributes:
        image: Its URL.
        status: One of `STATUSES`.
        text: What it is doing or waiting for, or its outcome.
        owner: Whose job it is; empty if nobody is named, or if its run is not known.
        priority: That of its job; None if its run is not known.
        done: Number of tiles that are done; None if not known.
        tiles: Number of tiles; None before the image is planned, or if not known.
        features: Number of published features; None before the end, or if not known.
        failed: Number of tiles that failed; None before the end, or if not known.
        covered: Share (0 to 1) of the area that did not fail; None before the end.
        reasons: Reasons why tiles failed with the number of tiles, most frequent first.
        outputs: URI of each published file and stream by its name.
        attempts: How often a run of the image has begun; None if not known.
        began: When its last run began.
        updated: When that was last known to change.
        ended: When it ended.
        startup: Seconds of each stage of the start of its run by name, as far as they are known.
    """

    model_config = ConfigDict(frozen=True)

    image: str
    status: str
    text: str = ""
    owner: str = ""
    priority: int | None = None
    done: int | None = None
    tiles: int | None = None
    features: int | None = None
    failed: int | None = None
    covered: float | None = None
    reasons: list[tuple[str, int]] = []
    outputs: dict[str, str] = {}
    attempts: int | None = None
    began: datetime | None = None
    updated: datetime | None = None
    ended: datetime | None = None
    startup: dict[str, float] = {}

    @property
    def unfinished(self) -> bool:
        """Whether its run waits or works."""
        return self.status in UNFINISHED


def image_status(record: ImageRecord | None, run: ImageRun | None, progress: str) -> ImageStatus:
    """Where an image stands; at least one of record and run is given.

    Args:
        record: What was recorded of it, if anything.
        run: Its newest run in Prefect, if it is known there.
        progress: The text of that run's progress, if it has one.
    """
    recorded = _recorded(record) if record else None
    if run is None:
        assert recorded is not None
        return recorded
    if record and recorded and record.run == str(run.id) and not run.unfinished:
        # also where Prefect ended the run otherwise, after its results were published
        change = {"status": run.status, "text": run.text, "startup": run.startup}
        return recorded.model_copy(update=change | {"owner": run.owner, "priority": run.priority})
    done, tiles = parse_tiles(progress) or (None, None)
    if tiles is None and recorded and run.status == RUNNING:
        tiles = recorded.tiles
    return ImageStatus(
        image=run.image_url,
        status=run.status,
        text=_phase(run, progress, done, tiles),
        owner=run.owner,
        priority=run.priority,
        done=done,
        tiles=tiles,
        attempts=record.attempts if record else None,
        began=run.began,
        updated=run.changed,
        ended=None if run.unfinished else run.changed,
        startup=run.startup,
    )


def _phase(run: ImageRun, progress: str, done: int | None, tiles: int | None) -> str:
    if run.status != RUNNING:
        return run.text
    if not progress:
        return "opens the image"
    return "merges and publishes" if done == tiles else progress


def _recorded(record: ImageRecord) -> ImageStatus:
    """Where an image stands by its record alone."""
    ended = record.ended is not None
    tiles = sum(record.tiles.values()) if record.tiles else record.planned
    return ImageStatus(
        image=record.image_url,
        status=str(record.status) if ended else RUNNING,
        text=record.message,
        done=tiles if record.tiles else None,
        tiles=tiles,
        features=record.features,
        failed=record.tiles.get("failed"),
        covered=record.covered,
        reasons=record.reasons,
        outputs=record.outputs,
        attempts=record.attempts,
        began=record.began,
        updated=record.updated,
        ended=record.ended,
    )
