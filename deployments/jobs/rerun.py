"""Further runs of a job's images: what is missing is asked, or the kept answers are used again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from rich.console import Console

from deployments.jobs.changes import with_formats
from deployments.jobs.choice import chosen
from deployments.jobs.connection import require_server
from deployments.jobs.image_run import ImageRun
from deployments.run.command import EXIT
from deployments.run.option_names import naming_options
from tasks.errors import RequestError, StackError
from tasks.records.record import ImageRecord, read_records
from tasks.reporting.status import JobStatus
from tasks.settings import settings
from tasks.storage import objects

if TYPE_CHECKING:
    from tasks.request import Request

_REMEDY = "send its request again, which asks the model for every tile"
_NONE = "the model has answered for none of its tiles"


@dataclass(frozen=True)
class _Image:
    """What is known about an image that may be run again; at least one of both."""

    url: str
    record: ImageRecord | None
    run: ImageRun | None

    @property
    def request(self) -> dict[str, Any]:
        """The message of its last run, as JSON."""
        if self.record is not None:
            return self.record.request
        assert self.run is not None
        return self.run.request

    @property
    def succeeded(self) -> bool:
        """Whether its last run ended with SUCCESS."""
        last = self.run.status if self.run else self.record and self.record.status
        return last == JobStatus.SUCCESS

    @property
    def unpublished(self) -> bool:
        """Whether its last run did not publish to all outputs."""
        record = self.record
        return record is not None and (
            record.incomplete is not None or record.status is JobStatus.FAILED
        )

    def missing(self, *, ask: bool) -> str:
        """Why it cannot be run again; empty if it can.

        Args:
            ask: Whether the model may be called for the answers that are missing.
        """
        if self.record is None:
            return self._missing_without_record(ask=ask)
        if (removed := self.record.answers_removed) is not None:
            return (
                f"its answers are no longer kept: they were removed on {removed:%Y-%m-%d}, "
                f"SWATH_KEEP_AFTER_SUCCESS hours after SUCCESS; {_REMEDY}"
            )
        return "" if ask or self._has_answers() else _NONE

    def _missing_without_record(self, *, ask: bool) -> str:
        assert self.run is not None
        if self.run.began is None:
            return "" if ask else _NONE
        days = settings().keep_answers
        if self.run.changed and self.run.changed < datetime.now(UTC) - timedelta(days=days):
            return (
                f"its record and its answers are no longer kept: its run ended more than {days:g} "
                f"days ago (SWATH_KEEP_ANSWERS); {_REMEDY}"
            )
        # its process died before it wrote one, or the record is in the work store of the worker
        return (
            ""
            if ask
            else (
                f"there is no record of it in {settings().work_uri}: set SWATH_WORK_URI as for the "
                "worker; if that has none either, `swath redrive` asks the model"
            )
        )

    def _has_answers(self) -> bool:
        assert self.record is not None
        return self.record.answers is not None and bool(objects.list_names(self.record.answers))


def redrive(job_id: str, image: str | None, console: Console, *, wait: bool = False) -> int:
    """Run images of a job again that have not ended with SUCCESS; kept answers are not asked again.

    Args:
        job_id: The job.
        image: One of its images, by URL or by file name; None for all.
        console: Where each new run is printed.
        wait: Whether to wait until the runs have ended.

    Returns:
        The exit status: 0; with `wait` that of the worst outcome.

    Raises:
        SwathError: There is no such job, it is still running, or nothing is kept of it.
    """
    images = [each for each in _images(job_id, image) if not each.succeeded]
    if not images:
        console.print(f"{job_id}: ended with SUCCESS; there is nothing to redrive.", soft_wrap=True)
        return 0
    return _run(job_id, images, lambda request: request, console, ask=True, wait=wait)


def run_without_calls(
    job_id: str,
    image: str | None,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    console: Console,
    *,
    wait: bool = False,
) -> int:
    """Merge and publish images of a job again, from the answers that are kept, without any call.

    Args:
        job_id: The job.
        image: One of its images, by URL or by file name; None for all.
        change: Changes the message of an image as JSON.
        console: Where each new run is printed.
        wait: Whether to wait until the runs have ended.

    Returns:
        The exit status: 0; with `wait` that of the worst outcome.

    Raises:
        SwathError: There is no such job, it is still running, or nothing is kept of it.
    """
    return _run(job_id, _images(job_id, image), change, console, ask=False, wait=wait)


def publish_again(
    job_id: str, image: str | None, formats: Sequence[str], console: Console, *, wait: bool = False
) -> int:
    """Publish images of a job again, from the answers that are kept, without any call.

    Without other formats these are the images that are not published to all outputs, if there are
    any; their runs leave the other outputs alone.

    Args:
        job_id: The job.
        image: One of its images, by URL or by file name; None for all.
        formats: As for `changes.with_formats`.
        console: Where each new run is printed.
        wait: Whether to wait until the runs have ended.

    Returns:
        The exit status: 0; with `wait` that of the worst outcome.

    Raises:
        SwathError: There is no such job, it is still running, or nothing is kept of it.
    """
    images = _images(job_id, image)
    unpublished = [] if formats else [each for each in images if each.unpublished]
    change = partial(with_formats, formats=formats)
    return _run(job_id, unpublished or images, change, console, ask=False, wait=wait)


def _images(job_id: str, image: str | None) -> list[_Image]:
    """The images of a job that are meant.

    Raises:
        RequestError: There is no such job, or a run of them waits or works.
        SwathError: Prefect or the work store cannot be read.
    """
    require_server("A further run is created in Prefect")

    from deployments.jobs.runs import prefect_client, runs_of

    records = {record.image_url: record for record in read_records(job_id)}
    with prefect_client() as client:
        runs = {run.image_url: run for run in runs_of(client, job_id)}
    if not records and not runs:
        raise RequestError(
            f"{job_id}: no such job is known: Prefect has no run of it, and there is no record of "
            f"it in {settings().work_uri} (SWATH_WORK_URI), where one is kept for "
            f"{settings().keep_answers:g} days after its last change (SWATH_KEEP_ANSWERS)."
        )
    urls = chosen(image, records.keys() | runs.keys())
    for url in urls:
        if (run := runs.get(url)) and run.unfinished:
            raise RequestError(
                f"{job_id}: {url} is {run.status}; wait until it has ended (`swath status {job_id} "
                f"--watch`), or cancel it (`swath cancel {job_id}`)."
            )
    return [_Image(url, records.get(url), runs.get(url)) for url in urls]


def _run(
    job_id: str,
    images: Sequence[_Image],
    change: Callable[[dict[str, Any]], dict[str, Any]],
    console: Console,
    *,
    ask: bool,
    wait: bool,
) -> int:
    reasons = {each.url: each.missing(ask=ask) for each in images}
    able = [each for each in images if not reasons[each.url]]
    if not able:
        raise RequestError(f"{job_id}: {images[0].url}: {reasons[images[0].url]}.")
    for url, reason in reasons.items():
        if reason:
            console.print(f"{url}: is left out: {reason}", soft_wrap=True)
    requests = {each.url: _changed(each, change) for each in able}
    created = _create(requests, [each.run for each in able if each.run], ask=ask)
    for url in created:
        console.print(f"{url}: a further run of {job_id} is created", soft_wrap=True)
    if not wait:
        return 0

    from deployments.wait import wait_for_runs

    return EXIT[wait_for_runs(created, console)]


def _changed(image: _Image, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Request:
    from pydantic import ValidationError

    from tasks.request import Request
    from tasks.request.message import describe_errors

    with naming_options():
        try:
            return Request.model_validate(change(image.request))
        except ValidationError as error:
            raise RequestError(describe_errors(error)) from None


def _create(
    requests: dict[str, Request], runs: Sequence[ImageRun], *, ask: bool
) -> dict[str, UUID]:
    """Create a run of each image; returns their ids."""
    from prefect.exceptions import ObjectNotFound

    from deployments.jobs.runs import deployment_name, prefect_client
    from flows.image_runs import ImageRuns

    with prefect_client() as client:
        name = deployment_name(client, runs) or settings().image_deployment
        try:
            deployment = ImageRuns(name)
            return {
                url: deployment.create(request, url, str(uuid4()), ask=ask)
                for url, request in requests.items()
            }
        except ObjectNotFound as error:
            raise StackError(
                f"The Prefect server has no deployment {name}: name that of image runs in "
                "SWATH_IMAGE_DEPLOYMENT."
            ) from error
