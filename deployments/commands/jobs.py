"""The commands for jobs: `swath jobs`, `cost`, `status`, `cancel`, `redrive`, and others."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from deployments.console import console
from deployments.run.merging import MergingOptions

DEFAULT_MERGING = MergingOptions()
Job = Annotated[str, Parameter(help="Identifier of the job.")]
Image = Annotated[
    str | None,
    Parameter(help="One of its images, by URL or file name.", show_default=lambda _: "all"),
]
AsJson = Annotated[
    bool, Parameter(negative=(), show_default=False, help="Print JSON in place of text.")
]
Watch = Annotated[bool, Parameter(negative=(), show_default=False)]
Wait = Annotated[
    bool,
    Parameter(
        negative=(),
        show_default=False,
        help="Wait until the new runs have ended; the exit status is that of `swath run`.",
    ),
]
Status = Literal["RUNNING", "CANCELLING", "WAITING", "FAILED", "CANCELLED", "PARTIAL", "SUCCESS"]

jobs = App(name="jobs-commands")


@jobs.command(name="jobs", sort_key=8)
def list_jobs(
    *,
    status: Annotated[
        tuple[Status, ...],
        Parameter(help="Only jobs with this status. May be repeated.", show_default=False),
    ] = (),
    limit: Annotated[int, Parameter(help="Number of jobs, at most.", validator=Number(gte=1))] = 20,
    json: AsJson = False,
    watch: Annotated[Watch, Parameter(help="Go on until Ctrl-C.")] = False,
) -> int:
    """List jobs, the last that changed first: images, status, share done, features."""
    from deployments.jobs.listing import list_jobs

    list_jobs(console, statuses=status, limit=limit, json=json, watch=watch)
    return 0


@jobs.command(sort_key=9)
def cost(
    *,
    by: Annotated[
        str, Parameter(help="What is added up: job, model, or a tag of the message, as owner.")
    ] = "job",
    job: Annotated[str | None, Parameter(help="One job.", show_default=lambda _: "all")] = None,
    json: AsJson = False,
) -> int:
    """Add up what jobs used and cost: model calls, vCPU-seconds, bytes, money."""
    from deployments.jobs.costs import print_costs

    print_costs(by, job, json=json)
    return 0


@jobs.command(sort_key=9, usage="Usage: swath status JOB [IMAGE] [OPTIONS]")
def status(
    job: Job,
    image: Image = None,
    /,
    *,
    json: AsJson = False,
    watch: Annotated[
        Watch,
        Parameter(
            help="Go on until all images have ended; the exit status is that of `swath run`."
        ),
    ] = False,
) -> int:
    """Show where each image of a job stands, why tiles failed, and where the results are."""
    from deployments.jobs.status import show_status

    return show_status(job, image, console, json=json, watch=watch)


@jobs.command(sort_key=10, usage="Usage: swath cancel JOB [IMAGE]")
def cancel(job: Job, image: Image = None, /) -> int:
    """Cancel the images of a job that wait or are at work."""
    from deployments.jobs.cancellation import cancel_job

    return cancel_job(job, image, console)


@jobs.command(sort_key=11, usage="Usage: swath redrive JOB [IMAGE] [OPTIONS]")
def redrive(job: Job, image: Image = None, /, *, wait: Wait = False) -> int:
    """Run the images of a job again that ended without SUCCESS.

    The model is asked only for the tiles that it has not answered.
    """
    from deployments.jobs.rerun import redrive

    return redrive(job, image, console, wait=wait)


@jobs.command(sort_key=12, usage="Usage: swath remerge JOB [IMAGE] [OPTIONS]")
def remerge(
    job: Job,
    image: Image = None,
    /,
    *,
    merging: MergingOptions = DEFAULT_MERGING,
    wait: Wait = False,
) -> int:
    """Filter, merge and publish the answers of a job again, without calling the model.

    Options that are not given stay as they were in the job. The defaults below are those of a job
    that gave none, and those after another --merge.
    """
    from deployments.jobs.changes import with_merging
    from deployments.jobs.rerun import run_without_calls

    change = partial(with_merging, options=merging)
    return run_without_calls(job, image, change, console, wait=wait)


@jobs.command(sort_key=13, usage="Usage: swath publish JOB [IMAGE] [OPTIONS]")
def publish(
    job: Job,
    image: Image = None,
    /,
    *,
    formats: Annotated[
        tuple[str, ...],
        Parameter(
            help="Formats of the files, separated by commas.", show_default=lambda _: "the job's"
        ),
    ] = (),
    wait: Wait = False,
) -> int:
    """Publish the results of a job again, without calling the model.

    If some of its outputs failed, and no formats are given, only these are published to.
    """
    from deployments.jobs.rerun import publish_again

    return publish_again(job, image, formats, console, wait=wait)
