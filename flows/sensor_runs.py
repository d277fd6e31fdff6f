"""The runs of the sensor's deployment: which of them drain the queue, and which stand by."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelled, Crashed, Scheduled

from flows.cancel import stop_task
from flows.restarts import RunObserver
from tasks.settings import settings

STANDBY_TAG = "standby"
"""Tag of the runs that stand by."""

STANDBY_DELAYS = (timedelta(seconds=48), timedelta(seconds=58))
"""How long after it was postponed each run that stands by is started.

There are two, because one that is submitted may be killed with the sensor.
"""

_LEAST_LEFT = timedelta(seconds=30)
"""How soon a run may be due that is not postponed: each postponement costs Prefect's server 20 ms.

As long as a sensor takes between two checks at the most, which is 20 s, and the 10 s that a worker
submits a run before it is due.
"""

_NEVER = datetime.max.replace(tzinfo=UTC)
_STARTED = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
_CHECK = 10.0  # seconds between two checks whether a run has to end


class SensorRuns:
    """The runs of the deployment of the current run, a sensor; none if it has no deployment.

    Prefect's schedule starts a sensor every hour, and the one before it ends then. For a sensor
    that is killed before, two runs stand by: they are due in less than a minute, and postponed
    again and again while a sensor works.

    The methods raise `httpx.HTTPError` or `ValueError` if Prefect does not answer.
    """

    def __init__(self) -> None:
        self._deployment = UUID(deployment.id) if deployment.id else None
        self._checked = -_CHECK  # seconds of the monotonic clock
        self._took_over = False
        self._ends = ""
        self._observer = RunObserver()

    def reason_to_end(self) -> str:
        """Why the current run has to end, or an empty text; until then those that stand by wait on.

        Prefect is asked no more once there is a reason.
        """
        if not self._ends:
            self.postpone_standby()
        return self._ends

    def postpone_standby(self) -> None:
        """Have the runs that stand by wait on, unless the schedule is paused.

        A sensor that has to end, but still handles a message, postpones them too: the younger one
        waits for its slot meanwhile, and postpones none. Prefect is asked every ten seconds at
        most.
        """
        if self._deployment is None or time.monotonic() < self._checked + _CHECK:
            return
        self._ends = self._check(self._deployment)
        self._checked = time.monotonic()

    def _check(self, deployment: UUID) -> str:
        """End dead sensors and postpone those that stand by; returns a reason to end."""
        with get_client(sync_client=True) as client:
            found = client.read_deployment(deployment)
            if _is_paused(found):
                self._remove_standby(client)
                return f"the schedule of {found.name} is paused"
            runs = self._read(client, *_STARTED, StateType.SCHEDULED)
            self._end_dead(client, runs)
            self._postpone(client, runs)
        too_many = _younger(runs) >= settings().sensors_per_queue
        return "a younger sensor has started" if too_many else ""

    def pause(self) -> None:
        """Pause the schedule, and so the sensor."""
        if self._deployment is None:
            return
        with get_client(sync_client=True) as client:
            for schedule in client.read_deployment(self._deployment).schedules:
                client.update_deployment_schedule(self._deployment, schedule.id, active=False)
            self._remove_standby(client)

    def _end_dead(self, client: SyncPrefectClient, runs: Sequence[FlowRun]) -> None:
        """End the runs of sensors whose processes are gone: a killed worker leaves them Running."""
        for run in runs:
            if run.state_type not in _STARTED or str(run.id) == flow_run.id:
                continue
            if not (reason := self._observer.reason_lost(run)):
                continue
            if client.read_flow_run(run.id).state_id == run.state_id:
                end = Cancelled if run.state_type is StateType.CANCELLING else Crashed
                client.set_flow_run_state(run.id, end(message=reason), force=True)
                stop_task(run, reason)

    def _postpone(self, client: SyncPrefectClient, runs: Sequence[FlowRun]) -> None:
        """Postpone the runs that stand by and are due soon, or create them.

        A sensor begins with new ones, as every postponement adds a state to a run's history.
        """
        assert self._deployment is not None
        found = _standby(runs)
        kept = found[: len(STANDBY_DELAYS)] if self._took_over else []
        now = datetime.now(UTC)
        for number, delay in enumerate(STANDBY_DELAYS):
            later: State[None] = Scheduled(scheduled_time=now + delay)
            if number < len(kept):
                if (kept[number].next_scheduled_start_time or now) > now + _LEAST_LEFT:
                    continue
                client.set_flow_run_state(kept[number].id, later)
            else:
                client.create_flow_run_from_deployment(
                    self._deployment, name="sensor standby", tags=[STANDBY_TAG], state=later
                )
        for run in found[len(kept) :]:  # two sensors, at a handover, may have created some each
            client.delete_flow_run(run.id)
        self._took_over = True

    def _remove_standby(self, client: SyncPrefectClient) -> None:
        for run in _standby(self._read(client, StateType.SCHEDULED)):
            client.delete_flow_run(run.id)

    def _read(self, client: SyncPrefectClient, *states: StateType) -> list[FlowRun]:
        assert self._deployment is not None
        return client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[self._deployment])),
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[*states]))
            ),
        )


def stood_by() -> bool:
    """Whether the current run stood by: it starts when the sensors show no sign of life."""
    return STANDBY_TAG in (flow_run.tags or [])


def _younger(runs: Sequence[FlowRun]) -> int:
    """The number of sensors that have started after the current run, and not ended."""
    running = [run for run in runs if run.state_type is StateType.RUNNING and run.start_time]
    own = next((run.start_time for run in running if str(run.id) == flow_run.id), None)
    return sum(
        own is not None and run.start_time is not None and run.start_time > own for run in running
    )


def _standby(runs: Sequence[FlowRun]) -> list[FlowRun]:
    """The runs that stand by, the one that is due first before the others."""
    found = [
        run for run in runs if run.state_type is StateType.SCHEDULED and STANDBY_TAG in run.tags
    ]
    return sorted(found, key=lambda run: (run.next_scheduled_start_time or _NEVER, run.id))


def _is_paused(found: DeploymentResponse) -> bool:
    """Whether no schedule of a deployment starts runs."""
    return found.paused or not any(schedule.active for schedule in found.schedules)
