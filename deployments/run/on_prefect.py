"""A job as flow runs on a Prefect server, in this process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from threading import Event, Thread
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rich.console import Console

from deployments.local.prefect_server import CLIENT_SETTINGS
from deployments.prefect_access import REFUSED, reachable, refused
from deployments.run.interruption import Interruption
from deployments.run.options import RunOptions
from deployments.run.server import Server
from tasks.errors import StackError, SwathError
from tasks.reporting.summary import IncompleteJobError, Summary
from tasks.settings import ForeignResults, settings

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.flows import Flow

    from tasks.request import Request

_POLL_INTERVAL = 1.0  # seconds
_TIMEOUT = 30.0  # seconds for an answer: a busy server is slow, a stopped one refuses at once
_PATIENCE = 8.0  # seconds without an answer after which a server counts as stopped

_QUIET = {
    # The records go to the run in Prefect, and not to the terminal, which shows the outcome
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
}


def run_image(
    request: Request,
    image_url: str,
    server: Server,
    console: Console,
    *,
    options: RunOptions,
    interruption: Interruption,
    on_stopped: Callable[[StackError], None],
) -> Summary:
    """Detect the objects of an image and publish them, as flow runs in this process.

    Args:
        request: The message.
        image_url: One of its images.
        server: Where the runs are recorded.
        console: Where the address of the run and its progress are printed.
        options: What to run.
        interruption: Ends the process early; the run is then marked as Crashed.
        on_stopped: Is called, in another thread, when the server stops while the image is run. It
            has to end the process, as Prefect itself waits for minutes.

    Raises:
        StackError: The server stopped answering, or refused.
        SwathError: The request cannot be processed, or the results cannot be published.
    """
    os.environ["PREFECT_API_URL"] = server.api_url
    for name in ("SWATH_REGION_DEPLOYMENT", "SWATH_ONNX_REGION_DEPLOYMENT"):
        os.environ.pop(name, None)  # the regions are run here too
    for name, value in (CLIENT_SETTINGS | _QUIET).items():
        os.environ.setdefault(name, value)
    import httpx

    from tasks.records.folders import forget_image

    try:
        with _watched(server, on_stopped):
            os.environ["SWATH_LOCAL_ROOTS"] = json.dumps([str(root) for root in options.roots()])
            os.environ["SWATH_WORK_URI"] = str(options.answers)
            os.environ["SWATH_KEEP_BY_JOB"] = "false"
            os.environ["SWATH_FOREIGN_RESULTS"] = ForeignResults.REPLACE
            settings.cache_clear()
            if options.fresh:
                forget_image(request.job_id, image_url)
            rows = options.tiling.region_size
            return _run_flow(request, image_url, console, interruption, rows)
    except httpx.HTTPStatusError as error:
        raise _refused(server, error.response.status_code) from error
    except httpx.HTTPError as error:
        raise _stopped(server) from error


def _run_flow(
    request: Request,
    image_url: str,
    console: Console,
    interruption: Interruption,
    region_rows: int | None,
) -> Summary:
    from prefect.utilities.urls import url_for

    from deployments.watch import show_progress
    from flows.image import image

    def print_address(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
        console.print(f"Follow it at {url_for(flow_run)}", soft_wrap=True)
        interruption.last_step = partial(_mark_crashed, flow_run.id)

    flow = image.with_options(on_running=[print_address])
    with show_progress(request.job_id, console):
        state: State[Any] = flow(request, image_url, region_rows, return_state=True)
    summary: Summary | Exception = state.result(raise_on_failure=False)
    if isinstance(summary, IncompleteJobError):
        return summary.summary
    if isinstance(summary, Exception):
        raise SwathError(str(summary)) from summary
    return summary


def _mark_crashed(run_id: UUID) -> None:
    """End a run in Prefect, whose process ends before Prefect's own code has done that."""
    from prefect.states import Crashed

    from flows.run_records import client_without_retries

    with suppress(Exception), client_without_retries() as client:
        client.set_flow_run_state(run_id, Crashed(message="It was interrupted."), force=True)


@contextmanager
def _watched(server: Server, on_stopped: Callable[[StackError], None]) -> Iterator[None]:
    """Check the server regularly while the block lasts."""
    ended = Event()
    watcher = Thread(target=_watch, args=(server, on_stopped, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()


def _watch(server: Server, on_stopped: Callable[[StackError], None], ended: Event) -> None:
    answered = time.monotonic()
    while not ended.wait(_POLL_INTERVAL):
        if reachable(server.api_url, _TIMEOUT):
            answered = time.monotonic()
        elif time.monotonic() > answered + _PATIENCE:
            on_stopped(_stopped(server))
            return


def _refused(server: Server, status: int) -> StackError:
    log = f"refused a call with status {status}: its log says why"
    return StackError(
        f"The Prefect server {server.api_url}, named by {server.named_by}, "
        f"{refused(status) if status in REFUSED else log}. "
        "`--no-prefect` runs the image without a server."
    )


def _stopped(server: Server) -> StackError:
    return StackError(
        f"The Prefect server {server.api_url} stopped answering while the image was run: start it "
        "and run the image again, or run it without a server, with --no-prefect."
    )
