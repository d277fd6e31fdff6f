"""`swath up`: the local stack with the built-in models, until Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from deployments.local.folders import state_folder
from deployments.local.process import inherited_environment
from deployments.local.stack import Stack
from deployments.prefect_access import PASSWORD
from deployments.saved_filters import INCOMPLETE_JOBS, JOBS, address, save_filters
from deployments.sensor import start_sensor
from tasks.settings import settings


@dataclass(frozen=True)
class StackWithModels:
    """A running local stack and the server of the built-in models.

    Attributes:
        stack: AWS emulator, Prefect server, worker and deployments.
        models_url: Base URL of the built-in models.
    """

    stack: Stack
    models_url: str

    def model_url(self, model: str) -> str:
        """URL of a built-in model, for POST of a tile."""
        return f"{self.models_url}/{model}/invocations"


@contextmanager
def stack_with_models(
    folder: Path, console: Console, local_roots: Sequence[Path] = (), *, fresh: bool = True
) -> Iterator[StackWithModels]:
    """Run the local stack, the built-in models and a sensor on the queue while the block lasts.

    Args:
        folder: Folder for logs, and for all that is kept: queues, buckets, and Prefect's runs.
        console: Where the start of each part is reported.
        local_roots: Folders in which requests may name images and outputs.
        fresh: Whether to start empty, or with what the folder has kept.
    """
    report = partial(console.print, soft_wrap=True)
    with Stack(folder, progress=report, fresh=fresh, local_roots=local_roots) as stack:
        stack.record.adopt()
        port = stack.kept.port("the model server", 8080)
        models = stack.processes.start(
            "the model server",
            [sys.executable, "-m", "deployments.model_server", "--port", str(port)],
            env=inherited_environment(),
            log=folder / "logs" / "models.log",
        )
        models.wait_until(partial(models.answers, port, "/ping"), timeout=60)
        here = StackWithModels(stack, f"http://127.0.0.1:{port}")
        report(f"Models on {here.models_url}/MODEL/invocations")
        if metrics_port := settings().metrics_port:
            _serve_metrics(stack, metrics_port)
            report(f"Metrics on http://127.0.0.1:{metrics_port}/metrics")
        stack.worker_started = partial(start_sensor, "sensor/sensor-local", stack.record.api_url)
        stack.worker_started()
        save_filters(stack.record.api_url)
        yield here


def _serve_metrics(stack: Stack, port: int) -> None:
    options = ["--port", str(port), "--folder", str(stack.metrics)]
    server = stack.processes.start(
        "the metrics server",
        [sys.executable, "-m", "deployments.cli", "metrics", *options],
        env=inherited_environment(),
        log=stack.folder / "logs" / "metrics.log",
    )
    server.wait_until(partial(server.answers, port, "/metrics"), timeout=60)


def up(console: Console, local_roots: Sequence[Path], *, fresh: bool) -> int:
    """Run the stack until Ctrl-C; return the exit status."""
    with stack_with_models(state_folder() / "stack", console, local_roots, fresh=fresh) as here:
        record = here.stack.record
        console.print("\nThe stack is up; Ctrl-C stops it. For another terminal:", style="bold")
        for name, value in record.environment.items():
            shown = "the password of this stack" if name == PASSWORD else value
            console.print(f"  export {name}='{shown}'", soft_wrap=True)
        console.print(
            f"\n  Prefect UI       {record.ui_url}\n"
            f"  jobs             {address(record.ui_url, JOBS)}\n"
            f"  without success  {address(record.ui_url, INCOMPLETE_JOBS)}\n"
            f"  queue            {record.queue_url}\n"
            f"  dead letters     {record.dead_letter_url}\n"
            f"  status messages  {record.status_queue_url}\n"
            f"  buckets          {record.image_bucket}, {record.result_bucket}\n"
            f"  logs             {here.stack.folder / 'logs'}\n"
            "  submit           swath submit REQUEST.json\n"
            "  follow           swath jobs; swath status JOB",
            soft_wrap=True,
        )
        try:
            here.stack.watch()
        finally:
            console.print("\nStopping, in some seconds; the next `swath up` goes on with its jobs.")
    return 0
