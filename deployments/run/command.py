"""The command `swath run`: it prints progress and outcome, and has an exit status."""

from __future__ import annotations

import json as json_text
from typing import Any

from rich.console import Console

from deployments.run.job import run_image
from deployments.run.options import RunOptions, image_url
from tasks.errors import PublishError, SwathError
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import Summary

EXIT = {JobStatus.SUCCESS: 0, JobStatus.FAILED: 1, JobStatus.PARTIAL: 3}


def run(options: RunOptions, console: Console, *, json: bool) -> int:
    """Run a model over an image; return the exit status.

    Args:
        options: What to run.
        console: Where progress and messages are printed.
        json: Whether to print the outcome as a JSON object on standard output.

    Raises:
        SwathError: An option has an invalid value, or the image cannot be processed.
    """
    try:
        request = options.request()
        console.print(f"{image_url(options.image)} · {request.job_id}", soft_wrap=True)
        _make_folder(options)
        summary = run_image(
            request,
            request.image_urls[0],
            roots=options.roots(),
            region_rows=options.tiling.region_size,
        )
    except SwathError as error:
        if json:
            print(json_text.dumps(_failed_outcome(options)))
        raise error from None
    console.print(f"{summary.status}: {summary.message}", soft_wrap=True, markup=False)
    if json:
        print(json_text.dumps(_outcome(summary)))
    else:
        print(*summary.outputs.values(), sep="\n")
    return EXIT[summary.status]


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
