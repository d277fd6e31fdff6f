"""The sensor's runs in Prefect: which drains the queue, which stands by, and when none does."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.flow_engine import run_flow
from prefect.flows import Flow
from prefect.states import Crashed, Running

from flows.sensor import sensor
from flows.sensor_runs import STANDBY_DELAY, STANDBY_TAG, SensorRuns
from tasks.settings import settings

pytestmark = pytest.mark.usefixtures("prefect_api", "always_checked")


@pytest.fixture
def always_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each call ask Prefect, and postpone the run that stands by."""
    monkeypatch.setattr("flows.sensor_runs._CHECK", 0.0)
    monkeypatch.setattr("flows.sensor_runs._POSTPONE", 0.0)


@flow
def watching(checks: int = 1) -> list[str]:
    """A sensor that does nothing but check some times whether it has to end."""
    others = SensorRuns()
    return [others.reason_to_end() for _ in range(checks)]


class Deployment:
    """A deployment with an hourly schedule; nothing runs its runs but `run`."""

    def __init__(self, of: Flow[..., Any]) -> None:
        self.flow, self.pool = of, f"pool-{uuid4()}"
        hourly = DeploymentScheduleCreate(schedule=IntervalSchedule(interval=timedelta(hours=1)))
        with get_client(sync_client=True) as client:
            client.create_work_pool(WorkPoolCreate(name=self.pool, type="process"))
            self.id = client.create_deployment(
                client.create_flow(of), self.pool, schedules=[hourly], work_pool_name=self.pool
            )

    def create(self, state: State[Any] | None = None) -> FlowRun:
        """Create a run; it starts at once in `run` alone."""
        with get_client(sync_client=True) as client:
            run = client.create_flow_run_from_deployment(self.id)
            if state is not None:
                client.set_flow_run_state(run.id, state, force=True)
            return run

    def run(self, created: FlowRun | None = None, **parameters: Any) -> State[Any]:
        """Run a run of the deployment in this process; returns its final state."""
        run = created or self.create()
        state: Any = run_flow(self.flow, run, parameters=parameters, return_type="state")
        assert isinstance(state, State)
        return state

    def standby(self) -> list[FlowRun]:
        """The runs that stand by."""
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs(
                deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[self.id]))
            )
        return [run for run in runs if STANDBY_TAG in run.tags]

    def due(self, moment: datetime) -> set[UUID]:
        """The runs that a worker is given at a moment."""
        with get_client(sync_client=True) as client:
            found = client.get_scheduled_flow_runs_for_work_pool(self.pool, scheduled_before=moment)
        return {each.flow_run.id for each in found}

    def schedule_is_active(self) -> bool:
        """Whether its schedule starts runs."""
        with get_client(sync_client=True) as client:
            (schedule,) = client.read_deployment(self.id).schedules
        return schedule.active


@pytest.fixture
def watch() -> Deployment:
    """A deployment of the flow that only checks."""
    return Deployment(watching)


def test_while_a_sensor_works_one_run_stands_by_and_is_postponed(watch: Deployment) -> None:
    assert watch.run().result() == [""]
    (first,) = watch.standby()
    assert watch.run(checks=2).result() == ["", ""]
    (later,) = watch.standby()
    assert later.id == first.id
    assert later.next_scheduled_start_time is not None
    assert first.next_scheduled_start_time is not None
    assert later.next_scheduled_start_time > first.next_scheduled_start_time


def test_of_two_runs_that_stand_by_one_remains(watch: Deployment) -> None:
    with get_client(sync_client=True) as client:
        for _ in range(2):
            client.create_flow_run_from_deployment(watch.id, tags=[STANDBY_TAG])
    watch.run()
    assert len(watch.standby()) == 1


def test_after_the_last_sign_of_life_the_run_that_stands_by_is_started(watch: Deployment) -> None:
    watch.run()
    died = datetime.now(UTC)
    (standby,) = watch.standby()
    assert standby.id not in watch.due(died + timedelta(minutes=1))  # it would be postponed before
    assert standby.id in watch.due(died + STANDBY_DELAY)
    assert watch.run(standby).result() == [""]
    (next_one,) = [run for run in watch.standby() if run.id != standby.id]
    assert next_one.state is not None
    assert next_one.state.is_scheduled()


def test_a_sensor_ends_when_a_younger_one_has_started(watch: Deployment) -> None:
    old = watch.create(Running())
    young = watch.create(Running())
    assert watch.run(young).result() == [""]
    watch.create(Running())
    assert watch.run(old).result() == ["a younger sensor has started"]
    assert len(watch.standby()) == 1  # it waits on until the younger one postpones it


def test_a_younger_sensor_that_has_ended_takes_nothing_over(watch: Deployment) -> None:
    old = watch.create(Running())
    young = watch.create(Running())
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(young.id, Crashed(), force=True)
    assert watch.run(old).result() == [""]


def test_as_many_sensors_work_as_may_drain_a_queue(
    watch: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWATH_SENSORS_PER_QUEUE", "2")
    settings.cache_clear()
    old = watch.create(Running())
    watch.create(Running())
    assert watch.run(old).result() == [""]
    old = watch.create(Running())
    watch.create(Running())
    watch.create(Running())
    assert watch.run(old).result() == ["a younger sensor has started"]
    settings.cache_clear()


def test_a_sensor_ends_when_its_schedule_is_paused_and_nothing_stands_by(
    watch: Deployment,
) -> None:
    watch.run()
    with get_client(sync_client=True) as client:
        (schedule,) = client.read_deployment(watch.id).schedules
        client.update_deployment_schedule(watch.id, schedule.id, active=False)
    (reason,) = watch.run().result()
    assert reason.endswith("is paused")
    assert watch.standby() == []


@pytest.fixture(params=["", None], ids=["empty", "unset"])
def no_queue(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """The settings of a worker for which no queue is set."""
    monkeypatch.delenv("SWATH_QUEUE_URL", raising=False)
    if request.param is not None:
        monkeypatch.setenv("SWATH_QUEUE_URL", request.param)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.mark.usefixtures("no_queue")
def test_without_a_queue_the_sensor_turns_itself_off_and_is_not_red() -> None:
    deployed = Deployment(sensor)
    assert deployed.schedule_is_active()
    end = deployed.run()
    assert end.is_completed()
    assert "set SWATH_QUEUE_URL" in str(end.message)
    assert not deployed.schedule_is_active()
    assert deployed.standby() == []
