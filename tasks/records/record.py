"""What is known about one image of a job: `record.json` in the image's folder of the work store.

The image's run writes it when it begins, after its plan and at its end. The commands `swath jobs`,
`status`, `redrive`, `remerge` and `publish` read it, and so does the removal of old answers.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.cost.usage import Usage
from tasks.records.folders import image_folder, jobs_folder
from tasks.reporting.status import JobStatus
from tasks.request import Request
from tasks.storage import conditional, objects

if TYPE_CHECKING:
    from tasks.reporting.summary import Summary

CANCELLED: Literal["CANCELLED"] = "CANCELLED"
"""Status of a record whose run was cancelled; the status message is FAILED, as in OSML."""

NAME = "record.json"
"""Name of the record in the image's folder."""

_MOST_REASONS = 20  # recorded, the most frequent first
_READERS = 16  # records that are read at the same time

logger = logging.getLogger(__name__)


class Outcome(BaseModel):
    """What a run has published: a stream does not tell what it was given.

    Attributes:
        request: Identity of the request, `Request.identity`.
        etag: The version of the image.
        summary: The outcome, `Summary` as JSON.
    """

    model_config = ConfigDict(frozen=True)

    request: str
    etag: str
    summary: dict[str, Any]


class ImageRecord(BaseModel):
    """What is known about one image of a job.

    Attributes:
        job_id: The job.
        image_url: The image.
        request: The message as JSON, with its references to secrets, never their values.
        run: Id of the last run of the image in Prefect.
        attempts: How often a run of the image has begun.
        status: STARTED, IN_PROGRESS, SUCCESS, PARTIAL, FAILED or CANCELLED.
        message: The outcome in one line; empty before.
        began: When the last run began.
        updated: When this record was last written.
        ended: When the last run ended; None before.
        etag: The version of the image; None before it is known.
        answers: Folder or s3:// prefix of the kept answers; None before it is known.
        planned: Number of tiles in the plan; None before.
        tiles: Number of tiles by state, at the end.
        covered: Share (0 to 1) of the area that did not fail; None before the end.
        features: Number of features published; None before the end.
        reasons: Reasons why tiles failed with the number of tiles, most frequent first.
        outputs: URI of each file and stream by its name.
        success: What the last run that has published did; None if that was no SUCCESS.
        incomplete: The same, if some of its outputs failed; None if none did.
        usage: What all runs of the image used, as far as they ended.
        cost: What that costs, by currency; empty without prices.
        answers_removed: When the kept answers were removed for their age; None if they were not.
    """

    model_config = ConfigDict(frozen=True)

    job_id: str
    image_url: str
    request: dict[str, Any]
    run: str
    attempts: int = 1
    status: JobStatus | Literal["CANCELLED"] = JobStatus.STARTED
    message: str = ""
    began: datetime
    updated: datetime
    ended: datetime | None = None
    etag: str | None = None
    answers: str | None = None
    planned: int | None = None
    tiles: dict[str, int] = {}
    covered: float | None = None
    features: int | None = None
    reasons: list[tuple[str, int]] = []
    outputs: dict[str, str] = {}
    success: Outcome | None = None
    incomplete: Outcome | None = None
    usage: Usage = Usage()
    cost: dict[str, float] = {}
    answers_removed: datetime | None = None


@dataclass(frozen=True)
class Recorder:
    """Writes the record of an image's run; an error is logged and never fails the job.

    A run writes no more once another run of the image has begun.

    Attributes:
        job_id: The job.
        image_url: The image.
        run: Id of the run in Prefect.
    """

    job_id: str
    image_url: str
    run: str

    def began(self, request: Request) -> None:
        """The run begins, for the first time or again."""
        now = datetime.now(UTC)
        with _log_errors(self):
            last = read_record(self.job_id, self.image_url)
            write_record(
                ImageRecord(
                    job_id=self.job_id,
                    image_url=self.image_url,
                    # a tile size that is not given is that of the model
                    request=request.model_dump(mode="json", exclude_unset=True),
                    run=self.run,
                    attempts=last.attempts + 1 if last else 1,
                    began=now,
                    updated=now,
                    etag=last.etag if last else None,
                    answers=last.answers if last else None,
                    success=last.success if last else None,
                    incomplete=last.incomplete if last else None,
                    usage=last.usage if last else Usage(),
                    cost=last.cost if last else {},
                )
            )

    def planned(self, etag: str, answers: str, tiles: int) -> None:
        """The image is planned.

        Args:
            etag: The version of the image.
            answers: Folder or s3:// prefix of its kept answers.
            tiles: Number of tiles.
        """
        self._update(status=JobStatus.IN_PROGRESS, etag=etag, answers=answers, planned=tiles)

    def finished(self, summary: Summary, request: str, etag: str) -> None:
        """The results are published.

        Args:
            summary: The outcome.
            request: Identity of the request, `Request.identity`.
            etag: The version of the image.
        """
        told = summary.model_dump(mode="json")
        outcome = Outcome(request=request, etag=etag, summary=told)
        self._update(
            spent=summary,
            success=outcome if summary.status is JobStatus.SUCCESS else None,
            incomplete=outcome if summary.failed_outputs else None,
            status=summary.status,
            message=summary.message,
            ended=datetime.now(UTC),
            tiles=summary.tiles,
            covered=summary.covered,
            features=summary.features,
            reasons=summary.reasons[:_MOST_REASONS],
            outputs=summary.outputs,
        )

    def ended(self, status: JobStatus | Literal["CANCELLED"], message: str) -> None:
        """The run has ended; without effect after `finished`."""
        self._update(unless_ended=True, status=status, message=message, ended=datetime.now(UTC))

    def _update(
        self, *, unless_ended: bool = False, spent: Summary | None = None, **fields: object
    ) -> None:
        with _log_errors(self):
            last = read_record(self.job_id, self.image_url)
            if last is None or last.run != self.run or (unless_ended and last.ended):
                return
            if spent is not None:
                fields |= _with_spent(last, spent)
            write_record(last.model_copy(update=fields | {"updated": datetime.now(UTC)}))


def _with_spent(last: ImageRecord, summary: Summary) -> dict[str, object]:
    """What all runs of an image used and cost, with one that has just ended."""
    cost = dict(last.cost)
    if summary.cost:
        currency = summary.cost.currency
        cost[currency] = cost.get(currency, 0.0) + summary.cost.total
    return {"usage": last.usage + summary.usage, "cost": cost}


def read_record(job_id: str, image_url: str) -> ImageRecord | None:
    """The record of an image; None if there is none, or it is not valid.

    Raises:
        PublishError: The work store cannot be read.
    """
    return read_record_at(image_folder(job_id, image_url))


def read_record_at(folder: str) -> ImageRecord | None:
    """The record in an image's folder; None if there is none, or it is not valid.

    Raises:
        PublishError: The work store cannot be read.
    """
    uri = objects.join(folder, NAME)
    found = conditional.read(uri)
    if found is None:
        return None
    try:
        return ImageRecord.model_validate_json(found[0])
    except ValidationError as error:
        logger.warning("%s is not a valid record: %s", uri, error)
        return None


def read_records(job_id: str | None = None) -> list[ImageRecord]:
    """The records of a job's images, or of all jobs.

    Raises:
        PublishError: The work store cannot be read.
    """
    with ThreadPoolExecutor(_READERS) as threads:
        found = list(threads.map(read_record_at, image_folders(job_id)))
    return [record for record in found if record and job_id in (None, record.job_id)]


def image_folders(job_id: str | None = None) -> Iterator[str]:
    """The folder of each image of a job, or of all jobs, as a path or `s3://` URI.

    Raises:
        PublishError: The work store cannot be read.
    """
    top = jobs_folder()
    jobs = objects.list_folders(top) if job_id is None else [job_id]
    for job in jobs:
        folder = objects.join(top, job)
        yield from (objects.join(folder, name) for name in objects.list_folders(folder))


def write_record(record: ImageRecord) -> None:
    """Store a record.

    Raises:
        PublishError: It cannot be stored.
    """
    body = record.model_dump_json(indent=1).encode()
    objects.put(objects.join(image_folder(record.job_id, record.image_url), NAME), body)


@contextmanager
def _log_errors(recorder: Recorder) -> Iterator[None]:
    """Log an error in the block: a record only informs, and must not fail a job."""
    try:
        yield
    except Exception as error:
        folder = image_folder(recorder.job_id, recorder.image_url)
        logger.warning("The record in %s is not written: %s", folder, error)
