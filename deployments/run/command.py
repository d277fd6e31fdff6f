"""The command `swath run`: it prints progress and outcome, and has an exit status."""

from __future__ import annotations

import json as json_text
from typing import Any, NoReturn

from rich.console import Console

from deployments.run.interruption import end_now, interruptible
from deployments.run.job import run_image
from deployments.run.options import RunOptions, image_url
from deployments.run.progress import ProgressBar
from deployments.run.server import Server, find_server
from tasks.errors import PublishError, StackError, SwathError
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary

EXIT = {JobStatus.SUCCESS: 0, JobStatus.FAILED: 1, JobStatus.PARTIAL: 3}


def run(
    options: RunOptions, console: Console, *, prefect: bool | None = None, json: bool = False
) -> int:
    """Run a model over an image; return the exit status.

    Args:
        options: What to run.
        console: Where progress and messages are printed.
        prefect: Whether to run it as flows on a Prefect server; None if PREFECT_API_URL is set.
        json: Whether to print the outcome as a JSON object on standard output.

    Raises:
        SwathError: An option has an invalid value, or the image cannot be processed.
    """
    try:
        with interruptible(console):
            summary = _work(options, console, find_server(prefect), json=json)
    except SwathError:
        _print_failed(options, json=json)
        raise
    console.print(f"{summary.status}: {summary.message}", soft_wrap=True, markup=False)
    if json:
        print(json_text.dumps(_outcome(summary)))
    else:
        print(*summary.outputs.values(), sep="\n")
    return EXIT[summary.status]


def _work(options: RunOptions, console: Console, server: Server | None, *, json: bool) -> Summary:
    """Work the image here, or as flows on a server."""
    request = options.request()
    url, rows = request.image_urls[0], options.tiling.region_size
    console.print(f"{image_url(options.image)} · {request.job_id}", soft_wrap=True)
    _make_folder(options)
    if server is None:
        with ProgressBar(console) as progress:
            return run_image(request, url, progress, roots=options.roots(), region_rows=rows)

    from deployments.run import on_prefect

    def stop(error: StackError) -> NoReturn:
        console.print(f"swath: {error}", soft_wrap=True)
        _print_failed(options, json=json)
        end_now(console, EXIT[JobStatus.FAILED])

    server.check()
    console.print(f"On the Prefect server {server.api_url} ({server.named_by})", soft_wrap=True)
    return on_prefect.run_image(
        request, url, server, console, roots=options.roots(), region_rows=rows, on_stopped=stop
    )


def _print_failed(options: RunOptions, *, json: bool) -> None:
    if json:
        print(json_text.dumps(_failed_outcome(options)))


def _make_folder(options: RunOptions) -> None:
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PublishError(
            f"--out: {options.out} is not a usable folder ({error}); give a folder that you may "
            "write to."
        ) from error


def _outcome(summary: Summary) -> dict[str, Any]:
    """The outcome as `--json` prints it."""
    fields = summary.model_dump(
        mode="json", include={"job_id", "status", "features", "tiles", "outputs"}
    )
    return fields | {"covered": summary.covered}


def _failed_outcome(options: RunOptions) -> dict[str, Any]:
    return {
        "job_id": options.job_id,
        "status": JobStatus.FAILED,
        "features": 0,
        "tiles": dict.fromkeys(("inferred", "blank", "outside", "failed"), 0),
        "outputs": {},
        "covered": 0.0,
    }
