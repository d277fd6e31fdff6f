"""Where jobs and their images stand: what Prefect and the records say, put together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console

from deployments.jobs.image_run import RUNNING, WAITING, ImageRun
from deployments.jobs.image_status import STATUSES, ImageStatus, image_status
from tasks.errors import PublishError
from tasks.records.record import ImageRecord, read_records

if TYPE_CHECKING:
    from uuid import UUID


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Job:
    """Where a job stands.

    Attributes:
        job_id: The job.
        images: Its images, in the order of their URLs.
    """

    job_id: str
    images: Sequence[ImageStatus]

    @property
    def status(self) -> str:
        """The first of `STATUSES` that one of its images has."""
        return min((image.status for image in self.images), key=STATUSES.index)

    @property
    def owner(self) -> str:
        """Whose job it is; empty if nobody is named, or it is not known."""
        return next((image.owner for image in self.images if image.owner), "")

    @property
    def priority(self) -> int | None:
        """Its priority; None if it is not known."""
        return next((image.priority for image in self.images if image.priority is not None), None)

    @property
    def waits(self) -> str:
        """Why the first of its images that waits does so; empty if none waits."""
        return next((image.text for image in self.images if image.status == WAITING), "")

    @property
    def ended(self) -> bool:
        """Whether no run of an image waits or works."""
        return not any(image.unfinished for image in self.images)

    @property
    def done(self) -> float:
        """The share (0 to 1) that is done; every image counts the same."""
        return sum(map(_share, self.images)) / len(self.images)

    @property
    def features(self) -> int | None:
        """Number of published features; None if no image has any yet."""
        return _sum([image.features for image in self.images])

    @property
    def failed(self) -> int | None:
        """Number of tiles that failed; None if no image has ended."""
        return _sum([image.failed for image in self.images])

    @property
    def updated(self) -> datetime | None:
        """When something of it was last known to change."""
        return max((image.updated for image in self.images if image.updated), default=None)

    @property
    def counts(self) -> dict[str, int]:
        """Number of images in each status that one has, in the order of `STATUSES`."""
        found = Counter(image.status for image in self.images)
        return {status: found[status] for status in STATUSES if found[status]}


def read_jobs(console: Console, job_id: str | None = None, *, live: bool) -> list[Job]:
    """Where jobs stand, the last that changed first.

    Args:
        console: Where it is said that one of the sources cannot be read.
        job_id: One job; None for all.
        live: Whether to ask Prefect too.

    Raises:
        PublishError: Prefect is not asked, and the work store cannot be read.
        StackError: Prefect does not answer.
    """
    runs, progress = _read_runs(job_id) if live else ({}, {})
    records = _read_records(console, job_id, needed=not live)
    jobs = defaultdict(list)
    for job, url in sorted(runs.keys() | records.keys()):
        run = runs.get((job, url))
        text = progress.get(run.id, "") if run else ""
        jobs[job].append(image_status(records.get((job, url)), run, text))
    found = [Job(job, images) for job, images in jobs.items()]
    return sorted(found, key=lambda job: job.updated or _LONG_AGO, reverse=True)


def _read_runs(
    job_id: str | None,
) -> tuple[dict[tuple[str, str], ImageRun], dict[UUID, str]]:
    from deployments.jobs.runs import prefect_client, progress_of, runs_of

    with prefect_client() as client:
        runs = runs_of(client, job_id)
        progress = progress_of(client, [run for run in runs if run.status == RUNNING])
    return {(run.job_id, run.image_url): run for run in runs}, progress


def _read_records(
    console: Console, job_id: str | None, *, needed: bool
) -> dict[tuple[str, str], ImageRecord]:
    try:
        records = read_records(job_id)
    except PublishError as error:
        if needed:
            raise
        console.print(f"Without details: the records cannot be read: {error}", soft_wrap=True)
        return {}
    return {(record.job_id, record.image_url): record for record in records}


def _share(image: ImageStatus) -> float:
    if not image.unfinished:
        return 1.0
    return image.done / image.tiles if image.done and image.tiles else 0.0


def _sum(numbers: Sequence[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None
