"""`swath demo`: the whole system on one image, on this machine."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from deployments.local.process import Process, inherited_environment
from deployments.local.processes import Processes
from deployments.up import StackWithModels, stack_with_models
from tasks.errors import ImageError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

MODEL = "bright-targets"
_HARBOUR = "deployments.demo.harbour"
_GENERATE = (
    f"from pathlib import Path; from {_HARBOUR}.scene import generate; generate(Path({{!r}}))"
)
_GENERATE_TIMEOUT = 300  # seconds for the generated harbour


def show(image: Path | None, out: Path, *, keep_running: bool, console: Console) -> int:
    """Start the stack, send one request, follow it, and show its results.

    Args:
        image: The user's own image; None for the generated harbour, with its ground truth.
        out: Folder for the results, the harbour and the logs.
        keep_running: Whether to keep the stack running at the end, until Ctrl-C.
        console: Where to print progress and results.

    Returns:
        The exit status: 0 for SUCCESS, 3 for PARTIAL, 1 for FAILED.

    Raises:
        ImageError: There is no such image, or none was given and the harbour is not installed.
    """
    if image is None and find_spec(_HARBOUR) is None:
        raise ImageError(
            "--image: the generated harbour is part of a clone of Swath, not of the installed "
            "package; give an image of your own, or run `make demo` in a clone."
        )
    if image is not None and not image.is_file():
        raise ImageError(f"{image}: there is no such file; give the path of a raster image.")
    began, out = time.monotonic(), out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    path = image or out / "harbour.tif"
    with Processes() as processes:
        generator = None if image else _start_generator(processes, path)
        with stack_with_models(out / "stack", console) as here:
            if generator is not None:
                console.print(f"Harbour of 8192 × 8192 pixels in {path}", soft_wrap=True)
                generator.finish(_GENERATE_TIMEOUT)
            run = _run_request(here, path, console)
            code = _show_results(here, run, path, out, console)
            console.print(f"{time.monotonic() - began:.0f} s in all")
            if not keep_running:
                console.print(
                    "The stack is stopped now, and with it the run's page; --keep-running keeps it."
                )
            else:
                console.print("The stack is still running; Ctrl-C stops it.")
                here.stack.watch()
    return code


def _start_generator(processes: Processes, path: Path) -> Process:
    """Generate the harbour while the stack starts, which mostly waits."""
    return processes.start(
        "the generation of the harbour",
        [sys.executable, "-c", _GENERATE.format(str(path))],
        env=inherited_environment(),
        log=path.parent / "stack" / "logs" / "harbour.log",
    )


def _run_request(here: StackWithModels, path: Path, console: Console) -> FlowRun:
    """Upload the image, send a request for it, and return its image run when it has ended."""
    from prefect import get_client

    from deployments.watch import image_run, show_progress
    from flows.restarts import has_ended
    from tasks.queue.sqs import send
    from tasks.storage import objects

    record = here.stack.record
    url = f"s3://{record.image_bucket}/{path.name}"
    objects.put(url, path)
    job_id = f"demo-{datetime.now(UTC):%H%M%S}"
    request = {
        "jobId": job_id,
        "imageUrls": [url],
        "outputs": [
            {
                "type": "S3",
                "bucket": record.result_bucket,
                "prefix": job_id,
                "formats": ["geojson", "parquet", "html"],
            }
        ],
        "imageProcessor": {"name": here.model_url(MODEL), "type": "HTTP_ENDPOINT"},
        "imageProcessorTileSize": 512,
        "imageProcessorTileOverlap": 128,
        "imageProcessorTileFormat": "GTIFF",
        "postProcessing": [
            {
                "step": "FEATURE_DISTILLATION",
                "algorithm": {"algorithmType": "NMS", "iouThreshold": 0.75},
            }
        ],
    }
    send(record.queue_url, json.dumps(request))
    console.print(f"Request {job_id} for {url} is on the queue")
    with (
        show_progress(job_id, console, "Waiting for the sensor …"),
        get_client(sync_client=True) as client,
    ):
        while (run := image_run(client, job_id)) is None or not has_ended(run):
            here.stack.watch(1)
    return run


def _show_results(
    here: StackWithModels, run: FlowRun, path: Path, out: Path, console: Console
) -> int:
    """Download the results and print the outcome; return the exit status."""
    from deployments.run.command import EXIT
    from flows.announce import status_of
    from tasks.request import Request
    from tasks.storage import objects

    assert run.state is not None
    record, status = here.stack.record, status_of(run.state)
    console.print(f"\n{status}: {run.state.message}", soft_wrap=True)
    request = Request.model_validate(run.parameters["request"])
    for name in ("geojson", "pixels.geojson", "parquet", "html", "coverage.parquet"):
        uri = f"s3://{record.result_bucket}/{request.job_id}/{path.name}.{name}"
        if objects.exists(uri):
            local = out / f"{path.name}.{name}"
            objects.put(str(local), objects.get(uri))
            console.print(f"  {name:16} {local}", soft_wrap=True)
    truth = path.with_name("truth.geojson")
    found = out / f"{path.name}.parquet"
    if truth.is_file() and found.is_file():
        console.print(f"  {_score_line(found, truth)}", soft_wrap=True)
    console.print(f"  run      {record.ui_url}/runs/flow-run/{run.id}", soft_wrap=True)
    return EXIT[status]


def _score_line(found: Path, truth: Path) -> str:
    """Precision and recall of published features against the ground truth, as one line."""
    import numpy as np
    import pyarrow.parquet as pq

    from deployments.demo.harbour.truth import Truth, score

    columns = ["image_x_min", "image_y_min", "image_x_max", "image_y_max"]
    table = pq.read_table(found, columns=columns)
    boxes = np.stack([table[name].to_numpy() for name in columns], axis=1)
    known = Truth.load(truth)
    result = score(boxes, known.boxes)
    return (
        f"truth    {len(known.boxes)} ships: precision {result.precision:.3f}, "
        f"recall {result.recall:.3f} ({result.missed} missed, {result.false} false, "
        f"of which {result.duplicates} duplicates)"
    )
