"""The command `swath run`: it prints progress and outcome, and has an exit status."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console

from deployments.run.interruption import Interruption
from deployments.run.job import run_image
from deployments.run.option_names import naming_options
from deployments.run.options import RunOptions
from deployments.run.preview import check_preview, preview_path, write_preview
from deployments.run.progress import ProgressBar
from deployments.run.server import Server, find_server
from deployments.run.without_pandas import leave_pandas_out
from tasks.cost.usage import Usage
from tasks.errors import StackError, SwathError
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary
from tasks.request import Request

EXIT = {JobStatus.SUCCESS: 0, JobStatus.PARTIAL: 3, JobStatus.FAILED: 1}
"""Exit status of each outcome, the better first."""


def run(
    options: RunOptions, console: Console, *, prefect: bool | None = None, json: bool = False
) -> int:
    """Run a model over images, one after the other; return the exit status, that of the worst.

    Args:
        options: What to run.
        console: Where progress and messages are printed.
        prefect: Whether to run it as flows on a Prefect server; None if PREFECT_API_URL is set.
        json: Whether to print a JSON object for the outcome of each image on standard output.

    Raises:
        SwathError: An option has an invalid value, or the only image cannot be processed.
    """
    with Interruption(console, options.out) as interruption:
        try:
            with naming_options():
                request, server = _start(options, console, find_server(prefect))
        except SwathError as error:
            _print_failed(options, error, json=json)
            raise
        several = len(request.image_urls) > 1
        ends = []
        for url in request.image_urls:
            try:
                with naming_options():
                    summary = _work(
                        request,
                        url,
                        options,
                        console,
                        server,
                        interruption=interruption,
                        json=json,
                    )
            except SwathError as error:
                _print_failed(options, error, url, json=json)
                if isinstance(error, StackError) or not several:
                    raise
                console.print(f"swath: {error}", soft_wrap=True)
                ends.append(JobStatus.FAILED)
            else:
                _print(summary, console, json=json)
                if options.preview is not None:
                    _preview(options.preview, request, summary, options, console, json=json)
                ends.append(summary.status)
    return EXIT[max(ends, key=[*EXIT].index)]


def _start(
    options: RunOptions, console: Console, server: Server | None
) -> tuple[Request, Server | None]:
    """The request, after all is checked that does not depend on a single image."""
    request = options.request()
    if options.found.skipped:
        console.print(options.found.skipped_text, soft_wrap=True)
    options.make_folder()
    if options.preview is not None:
        check_preview(options.preview, request)
    if server is not None:
        server.check()
        console.print(f"On the Prefect server {server.api_url} ({server.named_by})", soft_wrap=True)
    return request, server


def _work(
    request: Request,
    url: str,
    options: RunOptions,
    console: Console,
    server: Server | None,
    *,
    interruption: Interruption,
    json: bool,
) -> Summary:
    """Work an image here, or as flows on a server."""
    console.print(f"{url} · {request.job_id}", soft_wrap=True)
    rows = options.tiling.region_size
    if server is None:
        leave_pandas_out()
        with ProgressBar(console) as progress:
            return run_image(
                request,
                url,
                progress,
                roots=options.roots(),
                region_rows=rows,
                answers=options.answers,
                fresh=options.fresh,
            )

    from deployments.run import on_prefect

    def stop(error: StackError) -> NoReturn:
        console.print(f"swath: {error}", soft_wrap=True)
        _print_failed(options, error, url, json=json)
        interruption.end_now(EXIT[JobStatus.FAILED])

    return on_prefect.run_image(
        request,
        url,
        server,
        console,
        options=options,
        interruption=interruption,
        on_stopped=stop,
    )


def _print(summary: Summary, console: Console, *, json: bool) -> None:
    console.print(f"{summary.status}: {summary.message}", soft_wrap=True, markup=False)
    console.print(f"Used: {summary.used}", soft_wrap=True, markup=False)
    if json:
        print(json_text.dumps(_outcome(summary)), flush=True)
    else:
        print(*summary.outputs.values(), sep="\n", flush=True)


def _preview(
    path: Path,
    request: Request,
    summary: Summary,
    options: RunOptions,
    console: Console,
    *,
    json: bool,
) -> None:
    """Write the preview of an image; if that fails, the results are there nevertheless."""
    path = preview_path(path, request, summary.image)
    try:
        write_preview(request, summary, path, options.roots())
    except SwathError as error:
        console.print(f"swath: --preview: {path} is not written: {error}", soft_wrap=True)
    else:
        print(path, file=sys.stderr if json else sys.stdout, flush=True)


def _print_failed(
    options: RunOptions, error: SwathError, url: str | None = None, *, json: bool
) -> None:
    if json:
        print(json_text.dumps(_failed_outcome(options, error, url)), flush=True)


_OUTCOME = {
    *("job_id", "image", "status", "features", "classes", "seconds", "calls", "failed_calls"),
    *("tiles", "outputs", "raster", "usage", "cost"),
}


def _outcome(summary: Summary) -> dict[str, Any]:
    """The outcome as `--json` prints it."""
    fields = summary.model_dump(mode="json", include=_OUTCOME)
    return fields | {"covered": summary.covered, "message": summary.message}


def _failed_outcome(options: RunOptions, error: SwathError, url: str | None) -> dict[str, Any]:
    return {
        "job_id": options.job_id,
        "image": url,
        "status": JobStatus.FAILED,
        "features": 0,
        "classes": {},
        "seconds": None,
        "calls": 0,
        "failed_calls": 0,
        "tiles": dict.fromkeys(("inferred", "blank", "outside", "failed"), 0),
        "outputs": {},
        "raster": None,
        "usage": Usage().model_dump(mode="json"),
        "cost": None,
        "covered": 0.0,
        "message": str(error),
    }
