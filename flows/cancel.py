"""Runs that others end: cancelled in Prefect, and stopped where they would go on costing money."""

from __future__ import annotations

import time
from datetime import datetime
from functools import partial
from typing import Any

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.flows import Flow
from prefect.logging.loggers import flow_run_logger
from prefect.states import Cancelled, Cancelling

from flows.run_records import read_all
from tasks.aws import ecs
from tasks.errors import StopError
from tasks.settings import settings

UNFINISHED = [
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.PAUSED,
    StateType.CANCELLING,
]


def cancel_regions(flow: Flow[..., Any] | None, flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Leave no region at work for an image's run that ended early: a hook of its flow."""
    its = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run.id]))
    with get_client(sync_client=True) as client:
        # all of them: of those in some states, one that changes its own would move the next page
        for region in read_all(partial(client.read_flow_runs, flow_run_filter=its)):
            # the server itself may have cancelled some, whose ECS tasks it leaves as they are
            if region.state_type in {*UNFINISHED, StateType.CANCELLED}:
                cancel(client, region, "its image's run ended")


def cancel(client: SyncPrefectClient, run: FlowRun, reason: str) -> None:
    """Cancel a run, if it has not ended, and stop the ECS task that it is on.

    A run that is at work elsewhere is asked to end by itself.
    """
    if run.state is None or not run.state.is_final():
        text = f"Cancelled: {reason}."
        # no process would end it in order where there is none yet, or a task that is stopped
        at_once = ecs.is_task(run.infrastructure_pid) or run.start_time is None
        state: State[Any] = Cancelled(message=text) if at_once else Cancelling(message=text)
        client.set_flow_run_state(run.id, state, force=True)
    stop_task(run, reason)


def stop_task(run: FlowRun, reason: str) -> None:
    """Stop the ECS task that a run is on, if it is; that it cannot be is told in the run's log."""
    if ecs.is_task(run.infrastructure_pid):
        try:
            ecs.stop(run.infrastructure_pid, f"Swath: {reason}")
        except StopError as error:
            flow_run_logger(run).error("%s", error)


def never_started(run: FlowRun, submitted: datetime | None) -> str:
    """Why a run that was submitted is given up; empty while it need not be.

    Args:
        run: As it stands.
        submitted: When a worker took it; None where none has.
    """
    limit = settings().start_timeout
    if run.start_time or submitted is None or submitted.timestamp() + limit > time.time():
        return ""
    return (
        f"it did not start within {limit:g} s of being submitted (SWATH_START_TIMEOUT): look for "
        "room in the cluster, the image and the subnets' way to Prefect"
    )
