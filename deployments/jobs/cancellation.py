"""`swath cancel`: cancel the images of a job that wait or are at work."""

from __future__ import annotations

from rich.console import Console

from deployments.jobs.choice import chosen
from deployments.jobs.connection import require_server
from tasks.errors import RequestError


def cancel_job(job_id: str, image: str | None, console: Console) -> int:
    """Cancel the runs of a job's images that have not ended.

    Args:
        job_id: The job.
        image: One of its images, by URL or by file name; None for all.
        console: Where each cancelled image is printed.

    Returns:
        The exit status: 0, also if all had ended before.

    Raises:
        RequestError: There is no such job, or no such image in it.
        StackError: Prefect does not answer.
    """
    require_server("Runs are cancelled in Prefect")

    from deployments.jobs.runs import cancel_runs, prefect_client, runs_of

    with prefect_client() as client:
        urls = [run.image_url for run in runs_of(client, job_id)]
        if not urls:
            raise RequestError(
                f"{job_id}: Prefect has no run of such a job. A request that no sensor has "
                "received yet is a message on the queue, and cannot be cancelled there: wait until "
                "it is received, or pause the sensor's schedule."
            )
        names = cancel_runs(client, job_id, chosen(image, urls))
    for name in names:
        console.print(f"{name}: is being cancelled", soft_wrap=True)
    if not names:
        console.print(f"{job_id}: nothing that was named waits or works.", soft_wrap=True)
    return 0
