"""`swath up`: the local stack, with the built-in models, until Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from deployments.local.folders import state_folder
from deployments.local.loopback import free_port
from deployments.local.process import inherited_environment
from deployments.local.stack import Stack
from deployments.sensor import start_sensor


@dataclass(frozen=True)
class StackWithModels:
    """A local stack with models to ask.

    Attributes:
        stack: AWS, Prefect, worker and deployments.
        models_url: Address that the built-in models are served at.
    """

    stack: Stack
    models_url: str

    def model_url(self, model: str) -> str:
        """Where tiles for a built-in model are posted to."""
        return f"{self.models_url}/{model}/invocations"


@contextmanager
def stack_with_models(
    folder: Path, console: Console, local_roots: Sequence[Path] = ()
) -> Iterator[StackWithModels]:
    """The local stack and the models while the block lasts, with a sensor draining the queue.

    Args:
        folder: For logs and the Prefect home.
        console: Where each part is named as it comes up.
        local_roots: Folders that a request may name images and outputs in.
    """
    tell = partial(console.print, soft_wrap=True)
    with Stack(folder, progress=tell, local_roots=local_roots) as stack:
        stack.record.adopt()
        port = free_port(8080)
        models = stack.processes.start(
            "the model server",
            [sys.executable, "-m", "deployments.model_server", "--port", str(port)],
            env=inherited_environment(),
            log=folder / "logs" / "models.log",
        )
        models.wait_until(partial(models.answers, port, "/ping"), timeout=60)
        here = StackWithModels(stack, f"http://127.0.0.1:{port}")
        tell(f"Models on {here.models_url}/MODEL/invocations")
        start_sensor("sensor/local", stack.record.api_url)
        yield here


def up(console: Console, local_roots: Sequence[Path]) -> int:
    """Hold the stack until Ctrl-C; returns the exit status."""
    with stack_with_models(state_folder() / "stack", console, local_roots) as here:
        record = here.stack.record
        console.print(
            "\nThe stack is up; Ctrl-C takes it down. For another terminal:", style="bold"
        )
        for name, value in record.environment.items():
            console.print(f"  export {name}='{value}'", soft_wrap=True)
        console.print(
            f"\n  Prefect UI       {record.ui_url}\n"
            f"  queue            {record.queue_url}\n"
            f"  dead letters     {record.dead_letter_url}\n"
            f"  status messages  {record.status_queue_url}\n"
            f"  buckets          {record.image_bucket}, {record.result_bucket}\n"
            "  submit           swath submit REQUEST.json",
            soft_wrap=True,
        )
        here.stack.watch()
    return 0
