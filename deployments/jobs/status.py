"""`swath status`: where each image of a job stands."""

from __future__ import annotations

import json as json_text

from rich.console import Console

from deployments.jobs.choice import chosen
from deployments.jobs.connection import connect_or_say
from deployments.jobs.image_status import ImageStatus
from deployments.jobs.reading import Job, read_jobs
from deployments.jobs.screen import View, show
from deployments.run.command import EXIT
from tasks.errors import RequestError
from tasks.records.record import CANCELLED
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import WHY
from tasks.settings import settings

_MOST_REASONS = 5  # shown of an image


def show_status(
    job_id: str, image: str | None, console: Console, *, json: bool = False, watch: bool = False
) -> int:
    """Print where each image of a job stands.

    Args:
        job_id: The job.
        image: One of its images, by URL or by file name; None for all.
        console: Where messages are printed.
        json: Whether to print a JSON object.
        watch: Whether to go on until all images have ended.

    Returns:
        The exit status: 0; with `watch`, that of `swath run` for the outcome.

    Raises:
        RequestError: There is no such job, or no such image in it.
        SwathError: Neither Prefect nor the records can be read.
    """
    live = connect_or_say(console)
    jobs: list[Job] = []

    def look() -> View:
        job = read_job(job_id, console, live=live)
        urls = chosen(image, [each.image for each in job.images])
        jobs[:] = [Job(job_id, [each for each in job.images if each.image in urls])]
        text = json_text.dumps(_fields(jobs[0])) if json else "\n".join(_lines(jobs[0]))
        return View(text, jobs[0].ended)

    show(look, watch=watch)
    return exit_status(jobs[0].status) if watch else 0


def read_job(job_id: str, console: Console, *, live: bool) -> Job:
    """Where a job stands.

    Raises:
        RequestError: There is no such job.
        SwathError: Neither Prefect nor the records can be read.
    """
    for job in read_jobs(console, job_id, live=live):
        return job
    where = "Prefect has no run of it and there" if live else "there"
    raise RequestError(
        f"{job_id}: no such job is known: {where} is no record of it in {settings().work_uri} "
        "(SWATH_WORK_URI). A request that no sensor has received yet is a message on the queue."
    )


def exit_status(status: str) -> int:
    """The exit status of a job that has ended: that of `swath run`; 1 if it was cancelled."""
    return EXIT[JobStatus.FAILED if status == CANCELLED else JobStatus(status)]


def _fields(job: Job) -> dict[str, object]:
    """A job as `--json` prints it."""
    return {
        "job_id": job.job_id,
        "status": job.status,
        "done": job.done,
        "images": [image.model_dump(mode="json") for image in job.images],
    }


def _lines(job: Job) -> list[str]:
    counts = ", ".join(f"{number} {status}" for status, number in job.counts.items())
    done = "" if job.ended else f", {int(100 * job.done)} % done"
    whose = f"; owner {job.owner}" if job.owner else ""
    whose += f"; priority {job.priority}" if job.priority else ""
    lines = [f"{job.job_id}: {job.status}{done}; images: {counts}{whose}"]
    for image in job.images:
        lines += _image_lines(image)
    return lines


def _image_lines(image: ImageStatus) -> list[str]:
    head = f"{image.image}  {image.status}"
    text = [_without_reason(image)] if image.text else []
    if image.tiles is not None and image.done is None:
        text.append(f"{image.tiles} tiles")
    lines = [": ".join([head, "; ".join(text)]) if text else head]
    for reason, tiles in image.reasons[:_MOST_REASONS]:
        lines.append(f"    {tiles} tile{'' if tiles == 1 else 's'} failed: {reason}")
    if more := image.reasons[_MOST_REASONS:]:
        lines.append(f"    {sum(tiles for _, tiles in more)} tiles failed for other reasons")
    lines += [f"    {uri}" for uri in image.outputs.values()]
    if image.startup:
        from flows.startup import Startup  # only Prefect knows it, so that is imported already

        lines.append(f"    Start-up: {Startup(**image.startup)}")
    return lines


def _without_reason(image: ImageStatus) -> str:
    """The outcome without the most frequent reason, which has a line of its own."""
    why = f", {WHY}{image.reasons[0][0]}" if image.reasons else ""
    return image.text.replace(why, "", 1)
