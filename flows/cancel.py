"""Cancel runs in Prefect, and stop the ECS tasks that they are on."""

from __future__ import annotations

import time
from datetime import datetime
from functools import cache, partial
from typing import Any

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.flows import Flow
from prefect.logging.loggers import flow_run_logger
from prefect.states import Cancelled, Cancelling

from flows.run_records import PREFECT_ERRORS, children_of, read_all
from tasks.aws import ecs
from tasks.errors import StopError
from tasks.settings import settings

IMAGE_ENDED = "its image's run ended"
"""Why a region is cancelled with its image's run."""

_PROCESS_START = 180.0  # seconds in which a process starts, also on a machine that is overloaded
_MACHINE_START = 900.0  # the same for a machine that has to be found, and to get an image

UNFINISHED = [
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.PAUSED,
    StateType.CANCELLING,
]


def cancel_regions(flow: Flow[..., Any] | None, flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Cancel all regions of an image's run that ended early: a hook of its flow."""
    cancel_children(flow_run)


def cancel_children(flow_run: FlowRun, *, at_once: bool = False) -> None:
    """Cancel all regions of an image's run.

    Args:
        flow_run: The image's run.
        at_once: As of `cancel`.

    Raises:
        Exception: The first error, raised after all other regions were cancelled.
    """
    errors: list[Exception] = []
    with get_client(sync_client=True) as client:
        # of any state: a filter by state would skip runs whose state changes between two pages
        for region in read_all(
            partial(client.read_flow_runs, flow_run_filter=children_of(flow_run.id))
        ):
            # the server may have cancelled some, which does not stop their ECS tasks
            if region.state_type in {*UNFINISHED, StateType.CANCELLED}:
                try:
                    cancel(client, region, IMAGE_ENDED, at_once=at_once)
                except Exception as error:
                    errors.append(error)
    if errors:
        raise errors[0]


def cancel(client: SyncPrefectClient, run: FlowRun, reason: str, *, at_once: bool = False) -> None:
    """Cancel a run, if it has not ended, and stop the ECS task that it is on.

    A run on an ECS task, or one that has not started, is Cancelled at once. Any other run is set to
    Cancelling, and its worker ends the process. The ECS task is stopped even if Prefect does not
    accept the state.

    Args:
        client: Client of Prefect.
        run: The run as it was read.
        reason: Why it is cancelled.
        at_once: Set any run to Cancelled, as its worker may be gone too. If its process lives, it
            ends by itself within seconds (`flows/alive.py`).
    """
    try:
        if run.state is None or not run.state.is_final():
            text = f"Cancelled: {reason}."
            at_once = at_once or ecs.is_task(run.infrastructure_pid) or run.start_time is None
            if at_once:
                client.set_flow_run_state(run.id, Cancelled(message=text), force=True)
            elif run.state is None or not run.state.is_cancelling():  # or its end may be replaced
                client.set_flow_run_state(run.id, Cancelling(message=text), force=True)
    finally:
        stop_task(run, reason)


def stop_task(run: FlowRun, reason: str) -> None:
    """Stop the ECS task that a run is on, if any; an error is written to the run's log."""
    if ecs.is_task(run.infrastructure_pid):
        try:
            ecs.stop(run.infrastructure_pid, f"Swath: {reason}")
        except StopError as error:
            flow_run_logger(run).error("%s", error)


def never_started(run: FlowRun, submitted: datetime | None) -> str:
    """Why a run counts as one that never started; empty if it does not.

    Args:
        run: The run as last read.
        submitted: When a worker submitted it; None before that.
    """
    if run.start_time or submitted is None:
        return ""
    waited = time.time() - submitted.timestamp()
    limit = settings().start_timeout or _PROCESS_START
    if waited > limit and settings().start_timeout is None:
        try:
            limit = _start_timeout_on(run.work_pool_name)
        except PREFECT_ERRORS:
            return ""  # it is asked again
    if waited <= limit:
        return ""
    return (
        f"it did not start within {limit:g} s of being submitted (SWATH_START_TIMEOUT): check the "
        "worker, the capacity of the cluster, the image, and the route from the subnets to Prefect"
    )


@cache
def _start_timeout_on(work_pool: str | None) -> float:
    """Seconds in which a run starts on a work pool, if the operator has not set them.

    No proof tells that a process will never start: Prefect does not know which worker took a run.
    """
    with get_client(sync_client=True) as client:
        on_processes = work_pool and client.read_work_pool(work_pool).type == "process"
    return _PROCESS_START if on_processes else _MACHINE_START
