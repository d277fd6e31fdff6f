"""The sensor's runs in Prefect: which drains the queue, which stands by, and when none does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect import flow, get_client, runtime
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.flow_engine import run_flow
from prefect.flows import Flow
from prefect.states import Cancelling, Crashed, Running

from flows.sensor import sensor
from flows.sensor_runs import STANDBY_DELAYS, STANDBY_TAG, SensorRuns
from tasks.queue.sqs import send
from tasks.settings import settings
from tests.inbox import open_inbox
from tests.prefect_faults import prefect_answers

pytestmark = pytest.mark.usefixtures("prefect_api", "always_checked")


@pytest.fixture
def always_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each call ask Prefect, and postpone the runs that stand by."""
    monkeypatch.setattr("flows.sensor_runs._CHECK", 0.0)
    monkeypatch.setattr("flows.sensor_runs._LEAST_LEFT", max(STANDBY_DELAYS))


def due_at(run: FlowRun) -> datetime:
    """When a run that stands by is started."""
    assert run.next_scheduled_start_time is not None
    return run.next_scheduled_start_time


def standing_by(deployment: UUID) -> list[FlowRun]:
    """The runs that stand by, the one that is due first before the other."""
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))
        )
    return sorted(
        [run for run in runs if STANDBY_TAG in run.tags and run.state_name == "Scheduled"],
        key=due_at,
    )


@flow
def watching() -> list[str]:
    """A sensor that does nothing but check whether it has to end."""
    return [SensorRuns().reason_to_end()]


@flow
def watching_twice() -> list[list[tuple[UUID, datetime]]]:
    """A sensor that checks twice; returns which runs stood by after each check, and until when."""
    others, seen = SensorRuns(), []
    for _ in range(2):
        others.reason_to_end()
        standby = standing_by(UUID(runtime.deployment.id))
        seen.append([(run.id, due_at(run)) for run in standby])
    return seen


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
        """The runs that stand by, the one that is due first before the other."""
        return standing_by(self.id)

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


def test_while_a_sensor_works_two_runs_stand_by_and_are_postponed() -> None:
    first, later = Deployment(watching_twice).run().result()
    assert [run for run, _ in first] == [run for run, _ in later]
    assert len(first) == len(STANDBY_DELAYS) == 2
    assert all(old < new for (_, old), (_, new) in zip(first, later, strict=True))


def test_runs_that_are_not_due_soon_wait_on_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.sensor_runs._LEAST_LEFT", timedelta(seconds=30))
    first, later = Deployment(watching_twice).run().result()
    assert first == later


class EndedError(BaseException):
    """Ends a sensor, which no code of it can handle."""


@pytest.mark.parametrize("after", ["nothing", "a younger sensor has started"])
def test_while_a_message_of_many_images_is_handled_the_runs_that_stand_by_are_postponed(
    aws: str, after: str
) -> None:
    """Also by a sensor that has to end: the younger one waits for its slot, and postpones none."""
    request = {
        "jobId": "long",
        "imageUrls": [f"s3://images/{number}.tif" for number in range(3)],
        "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
        "imageProcessor": {"name": "bright-targets", "type": "BUILTIN"},
    }
    sensors, due = Deployment(sensor), list[list[datetime]]()

    def note(request: httpx.Request) -> None:
        if request.url.path.endswith("/create_flow_run") and b"image_url" in request.content:
            due.append([due_at(run) for run in sensors.standby()])
            if len(due) == 1 and after != "nothing":
                sensors.create(Running())
            if len(due) == 3:
                raise EndedError

    with open_inbox(f"images-{uuid4().hex[:8]}", concurrency_limit=1) as inbox:
        send(inbox.queue_url, json.dumps(request))
        with prefect_answers(note), pytest.raises(EndedError):
            sensors.run()
    first, second, third = due
    assert len(first) == len(STANDBY_DELAYS)
    assert all(a < b < c for a, b, c in zip(first, second, third, strict=True))


def test_a_sensor_begins_with_runs_that_stand_by_of_its_own(watch: Deployment) -> None:
    """So that the history of a run that is never needed does not grow without an end."""
    watch.run()
    before = {run.id for run in watch.standby()}
    watch.run()
    assert len(watch.standby()) == 2
    assert before.isdisjoint(run.id for run in watch.standby())


def test_of_many_runs_that_stand_by_two_remain(watch: Deployment) -> None:
    with get_client(sync_client=True) as client:
        for _ in range(4):
            client.create_flow_run_from_deployment(watch.id, tags=[STANDBY_TAG])
    watch.run()
    assert len(watch.standby()) == 2


def test_within_a_minute_of_the_last_sign_of_life_both_runs_that_stand_by_are_started(
    watch: Deployment,
) -> None:
    watch.run()
    died = datetime.now(UTC)
    first, second = watch.standby()
    postponed = died + timedelta(seconds=30)  # a sensor that lives has postponed them before
    assert {first.id, second.id}.isdisjoint(watch.due(postponed))
    assert first.id in watch.due(died + STANDBY_DELAYS[0])
    assert second.id in watch.due(died + STANDBY_DELAYS[1])
    assert max(STANDBY_DELAYS) < timedelta(minutes=1)


def test_if_a_run_that_stood_by_is_killed_too_the_other_takes_over(watch: Deployment) -> None:
    watch.run()
    first, second = watch.standby()
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(first.id, Crashed(), force=True)
    assert watch.run(second).result() == [""]
    assert len(watch.standby()) == 2


def test_a_sensor_ends_when_a_younger_one_has_started(watch: Deployment) -> None:
    old = watch.create(Running())
    young = watch.create(Running())
    assert watch.run(young).result() == [""]
    watch.create(Running())
    assert watch.run(old).result() == ["a younger sensor has started"]
    assert len(watch.standby()) == 2  # they wait on until the younger one postpones them


def test_the_run_of_a_sensor_whose_process_is_gone_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deployment = Deployment(watching_twice)
    dead, cancelled = deployment.create(Running()), deployment.create(Running())
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(cancelled.id, Cancelling(), force=True)
        deployment.run()
        assert client.read_flow_run(dead.id).state_name == "Running"  # it may only be late
        monkeypatch.setattr("flows.alive.SILENCE", 1e-9)
        deployment.run()
        assert client.read_flow_run(dead.id).state_name == "Crashed"
        assert client.read_flow_run(cancelled.id).state_name == "Cancelled"


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
