"""Waits for the outcome of the runs of images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from uuid import UUID

import httpx
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from rich.console import Console
from rich.text import Text

from deployments.watch import progress_text
from flows.announce import status_of
from flows.image_runs import find_run
from flows.restarts import has_ended
from tasks.errors import StackError
from tasks.reporting.status import JobStatus
from tasks.request import Request

_POLL_INTERVAL = 1.0  # seconds
_PATIENCE = 120.0  # seconds without an answer of Prefect


def wait_for_images(request: Request, message_id: str, console: Console) -> JobStatus:
    """Wait until all images of a request have ended, and print the outcome of each.

    Args:
        request: The message.
        message_id: Its id on the queue.
        console: Where to print progress and outcomes.

    Returns:
        The worst of their statuses.

    Raises:
        StackError: Prefect does not answer any more.
    """
    finders: dict[str, _Find] = {
        url: partial(find_run, request=request, image_url=url, message_id=message_id)
        for url in request.image_urls
    }
    return _wait_for_all(finders, console)


def wait_for_runs(runs: Mapping[str, UUID], console: Console) -> JobStatus:
    """Wait until runs of images have ended, and print the outcome of each.

    Args:
        runs: Id of the run of each image, by the image's URL.
        console: Where to print progress and outcomes.

    Returns:
        The worst of their statuses.

    Raises:
        StackError: Prefect does not answer any more.
    """
    finders: dict[str, _Find] = {
        url: partial(SyncPrefectClient.read_flow_run, flow_run_id=run_id)
        for url, run_id in runs.items()
    }
    return _wait_for_all(finders, console)


_Find = Callable[[SyncPrefectClient], FlowRun | None]
"""Finds the run of an image, or None before there is one."""


def _wait_for_all(finders: Mapping[str, _Find], console: Console) -> JobStatus:
    statuses = [_wait(url, find, console) for url, find in finders.items()]
    order = [JobStatus.SUCCESS, JobStatus.PARTIAL, JobStatus.FAILED]
    return max(statuses, key=order.index)


def _wait(url: str, find: _Find, console: Console) -> JobStatus:
    text = ""
    with get_client(sync_client=True) as client, console.status("") as status:
        for run in _records(client, url, find):
            now = _progress(client, run)
            if now != text and not (run and has_ended(run)):
                text = now
                status.update(Text(f"{url}: {text}"))
                if not console.is_terminal:
                    console.print(f"{url}: {text}", soft_wrap=True)
    assert run is not None
    assert run.state is not None
    ended = status_of(run.state)
    console.print(f"{url}: {ended}: {run.state.message}", soft_wrap=True)
    return ended


def _records(client: SyncPrefectClient, url: str, find: _Find) -> Iterator[FlowRun | None]:
    """Read the run of an image every second, None before there is one, until it has ended.

    Raises:
        StackError: Prefect does not answer any more, or the run was deleted.
    """
    answered, run = time.monotonic(), None
    while True:
        try:
            # found once: if it ends in failure, the sensor may create no other for this message
            run = client.read_flow_run(run.id) if run else find(client)
            answered = time.monotonic()
            yield run
            if run and has_ended(run):
                return
        except (httpx.HTTPError, ObjectNotFound) as error:
            if time.monotonic() > answered + _PATIENCE or isinstance(error, ObjectNotFound):
                raise StackError(
                    f"--wait: the outcome of {url} cannot be read from Prefect any more: {error}. "
                    "The request was sent, and need not be sent again."
                ) from error
        time.sleep(_POLL_INTERVAL)


def _progress(client: SyncPrefectClient, run: FlowRun | None) -> str:
    if run is None:
        return "Waiting for the sensor …"
    if run.state is not None and run.state.is_paused():
        return "Waiting for its turn …"
    if run.state is None or run.state.is_scheduled() or run.state.is_pending():
        return "Waiting for a worker …"
    try:
        return progress_text(client, run) or "Running …"
    except httpx.HTTPError:
        return "Running …"
