"""What a sensor does about image runs whose process is gone, by what it reads in Prefect."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from threading import Event, current_thread
from uuid import UUID, uuid4

import httpx
import pytest
from prefect import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import (
    AwaitingRetry,
    Cancelled,
    Cancelling,
    Completed,
    Crashed,
    Failed,
    Pending,
    Running,
)

from deployments.jobs.runs import cancel_runs
from flows.alive import SILENCE, LifeSigns
from flows.announce import announce_end, forget_end
from flows.cancel import never_started
from flows.image import image
from flows.image_runs import ImageRuns
from flows.labels import ALIVE, CLAIM
from flows.restarts import end_crashed
from tasks.aws.clients import client, renew_credentials
from tasks.request import Request
from tasks.settings import settings
from tests.faulty_proxy import Call, FaultyProxy, faulty_proxy, status
from tests.inbox import Inbox, open_inbox, received
from tests.polling import until
from tests.prefect_faults import prefect_answers

URL = "s3://images/0.tif"
TRIES = 3


@pytest.fixture
def inbox(aws: str, prefect_api: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Inbox]:
    """One whose deployment has two places; no worker starts its runs.

    What has not changed between two observations counts as dead.
    """
    monkeypatch.setattr("flows.image_runs._INTERVAL", 0.0)
    monkeypatch.setattr("flows.alive.SILENCE", 1e-9)
    monkeypatch.setattr("flows.restarts._AFTER_HOOK", 0.0)
    bucket = f"images-{uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=bucket)
    with open_inbox(bucket, concurrency_limit=2) as inbox:
        yield inbox


@pytest.fixture
def runs(inbox: Inbox) -> ImageRuns:
    """The runs of the inbox's deployment, as one sensor watches them."""
    return ImageRuns(f"image/{inbox.deployment}")


@pytest.fixture
def created(runs: ImageRuns) -> UUID:
    """A run of the deployment."""
    return runs.create(request(), URL, "message-1")


class Clock:
    """A clock that stands still unless a test moves it."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    @contextmanager
    def of(self, module: str) -> Iterator[None]:
        """While it is open, a module has this clock."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(f"{module}.time", self)
            yield


def request() -> Request:
    return Request.parse(
        json.dumps(
            {
                "jobId": f"job-{uuid4().hex[:8]}",
                "imageUrls": [URL],
                "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
                "imageProcessor": {"name": "bright-targets", "type": "BUILTIN"},
            }
        )
    )


def read(run: UUID) -> FlowRun:
    with get_client(sync_client=True) as prefect:
        return prefect.read_flow_run(run)


def put(run: UUID, *states: State[None]) -> None:
    """Set states of a run, one after the other."""
    with get_client(sync_client=True) as prefect:
        for state in states:
            prefect.set_flow_run_state(run, state, force=True)


def start(run: UUID) -> None:
    """Have a run take a place of its deployment and start, as a worker does."""
    with get_client(sync_client=True) as prefect:
        prefect.set_flow_run_state(run, Pending())
        prefect.set_flow_run_state(run, Running())


def crash(run: UUID) -> None:
    """End a run whose process ended, and call the hook, as its worker does."""
    put(run, Crashed(message="its worker saw it end"))
    end_crashed(image, read(run), Crashed())


def beat(run: UUID, value: str) -> None:
    """Show that the process of a run lives, as it does."""
    with get_client(sync_client=True) as prefect:
        prefect.update_flow_run_labels(run, {ALIVE: value})


def statuses(inbox: Inbox) -> list[str]:
    return [status["status"] for status in received(inbox.status_url)]


def places(inbox: Inbox) -> int:
    """Places of the deployment that are taken."""
    with get_client(sync_client=True) as prefect:
        limit = prefect.read_deployment_by_name(f"image/{inbox.deployment}")
    assert limit.global_concurrency_limit is not None
    return limit.global_concurrency_limit.active_slots


def observe(runs: ImageRuns, times: int = 2) -> None:
    """Have a sensor look at the runs; what did not change since it last looked is dead."""
    for _ in range(times):
        runs.reconcile()


# Dead or alive


def test_a_run_without_proof_of_life_is_set_back_and_gives_its_place_back(
    inbox: Inbox, runs: ImageRuns, created: UUID
) -> None:
    start(created)
    beat(created, "1")
    observe(runs, 1)
    assert read(created).state_name == "Running"
    assert places(inbox) == 1
    observe(runs, 1)
    assert read(created).state_name == "AwaitingRetry"
    assert "has shown no life" in str(read(created).state)
    assert places(inbox) == 0
    assert runs.waiting() == 1  # a worker is given it
    assert statuses(inbox) == []


def test_a_run_whose_label_changes_is_alive(runs: ImageRuns, created: UUID) -> None:
    start(created)
    for value in "123":
        beat(created, value)
        observe(runs, 1)
    assert read(created).state_name == "Running"


def test_a_process_does_not_count_as_dead_while_it_may_only_be_late(
    runs: ImageRuns, created: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.alive.SILENCE", SILENCE)
    start(created)
    observe(runs, 5)
    assert read(created).state_name == "Running"


def test_the_time_in_which_prefect_did_not_answer_does_not_count() -> None:
    clock, run = Clock(), uuid4()
    with clock.of("flows.alive"):
        signs = LifeSigns()
        assert not signs.silent(run, "1")
        clock.now += 10 * SILENCE
        assert not signs.silent(run, "1")
        for _ in range(5):
            clock.now += SILENCE / 5
            dead = signs.silent(run, "1")
        assert dead


def test_a_process_that_is_killed_before_it_starts_is_replaced(
    inbox: Inbox, runs: ImageRuns, created: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker is gone too: the run is Pending, and holds a place."""
    put(created, Pending())
    observe(runs)
    assert read(created).state_name == "Pending"
    monkeypatch.setenv("SWATH_START_TIMEOUT", "0.001")
    settings.cache_clear()
    observe(runs, 1)
    assert read(created).state_name == "AwaitingRetry"
    assert places(inbox) == 0


@pytest.mark.parametrize(("pool", "limit"), [("process", 180), ("ecs", 900)])
def test_a_process_has_less_time_to_start_than_a_machine(
    aws: str, prefect_api: str, pool: str, limit: int
) -> None:
    name = f"{pool}-{uuid4().hex[:8]}"
    with get_client(sync_client=True) as prefect:
        prefect.create_work_pool(WorkPoolCreate(name=name, type=pool))
    with open_inbox(f"images-{name}", work_pool_name=name) as inbox:
        run = ImageRuns(f"image/{inbox.deployment}").create(request(), URL, "message-1")
        put(run, Pending())
        late, in_time = (datetime.now(UTC) - timedelta(seconds=limit + s) for s in (5, -60))
        assert f"within {limit} s" in never_started(read(run), late)
        assert never_started(read(run), in_time) == ""


def test_a_crashed_run_is_not_started_again_before_its_worker_is_through_with_it(
    runs: ImageRuns, created: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which sets the state once more after the hook, whatever the state is by then."""
    start(created)
    put(created, Crashed())
    observe(runs)
    assert read(created).state_name == "Crashed"
    monkeypatch.setattr("flows.restarts._WITHOUT_HOOK", timedelta(0))  # the worker is gone too
    observe(runs, 1)
    assert read(created).state_name == "AwaitingRetry"


# Tries


def test_a_run_that_never_starts_is_not_tried_without_an_end(
    inbox: Inbox, runs: ImageRuns, created: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWATH_START_TIMEOUT", "0.001")
    settings.cache_clear()
    for _ in range(TRIES):
        put(created, Pending())
        observe(runs, 1)
    assert read(created).state_name == "Crashed"
    observe(runs, 1)
    assert statuses(inbox) == ["FAILED"]


def test_failed_is_told_only_when_the_tries_are_used_up(
    inbox: Inbox, runs: ImageRuns, created: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.restarts.HOOKS", timedelta(0))
    for tried in range(1, TRIES + 1):
        start(created)
        crash(created)
        assert statuses(inbox) == (["FAILED"] if tried == TRIES else [])
        observe(runs, 1)
    assert read(created).state_name == "Crashed"
    observe(runs)
    assert statuses(inbox) == []


def test_a_users_retry_has_all_tries(inbox: Inbox, runs: ImageRuns, created: UUID) -> None:
    for _ in range(TRIES):
        start(created)
        crash(created)
        observe(runs, 1)
    put(created, AwaitingRetry())
    forget_end(created)  # as each process does first
    start(created)
    crash(created)
    observe(runs, 1)
    assert read(created).state_name == "AwaitingRetry"


def test_the_end_of_a_run_without_a_deployment_is_told_at_once(inbox: Inbox) -> None:
    with get_client(sync_client=True) as prefect:
        parameters = {"request": request().model_dump(mode="json"), "image_url": URL}
        run = prefect.create_flow_run(image, parameters=parameters, state=Running())
    crash(run.id)
    assert statuses(inbox) == ["FAILED"]


# Cancelled


def test_a_cancelled_run_whose_process_is_gone_becomes_cancelled(
    inbox: Inbox, runs: ImageRuns, created: UUID
) -> None:
    start(created)
    put(created, Cancelling())
    observe(runs)
    assert read(created).state_name == "Cancelled"
    assert places(inbox) == 0


def test_a_cancelled_run_that_its_process_ended_as_crashed_is_not_started_again(
    runs: ImageRuns, created: UUID
) -> None:
    start(created)
    put(created, Cancelling())
    crash(created)
    observe(runs, 1)
    assert read(created).state_name == "Cancelled"


def test_a_job_that_waits_to_be_started_again_can_be_cancelled(
    inbox: Inbox, runs: ImageRuns, created: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.restarts.HOOKS", timedelta(0))
    start(created)
    crash(created)
    job = str(read(created).parameters["request"]["jobId"])
    with get_client(sync_client=True) as prefect:
        assert cancel_runs(prefect, job, [URL]) == [read(created).name]
        assert cancel_runs(prefect, job, [URL]) == []
    observe(runs, 1)
    assert read(created).state_name == "Cancelled"
    assert statuses(inbox) == ["FAILED"]


@pytest.mark.parametrize("state", [Cancelled(), Failed(), Failed(name="Partial"), Completed()])
def test_no_other_end_is_followed_by_another_try(
    runs: ImageRuns, created: UUID, state: State[None]
) -> None:
    start(created)
    put(created, state)
    observe(runs)
    assert read(created).state_name == state.name


# Messages


def test_a_message_is_served_by_a_run_that_is_started_again(
    inbox: Inbox, runs: ImageRuns, created: UUID
) -> None:
    again = Request.model_validate(read(created).parameters["request"])
    start(created)
    crash(created)
    assert runs.create(again, URL, "message-2") == created
    observe(runs, 1)
    assert read(created).state_name == "AwaitingRetry"
    put(created, Completed())
    assert runs.create(again, URL, "message-2") == created  # its deletion had failed
    assert runs.create(again, URL, "message-3") != created


@pytest.mark.parametrize(
    "state",
    [Completed(), Failed(), Failed(name="Partial"), Cancelled()],
    ids=lambda each: each.name,
)
def test_a_new_message_for_work_that_ended_has_a_new_run(
    runs: ImageRuns, created: UUID, state: State[None]
) -> None:
    again = Request.model_validate(read(created).parameters["request"])
    put(created, state)
    assert runs.create(again, URL, "message-1") == created
    assert runs.create(again, URL, "message-2") != created


# Told once


@pytest.fixture
def sns(aws: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyProxy]:
    """A proxy before SNS."""
    with faulty_proxy(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SNS", proxy.url)
        renew_credentials()
        yield proxy
    monkeypatch.delenv("AWS_ENDPOINT_URL_SNS")
    renew_credentials()


def publishes(call: Call) -> bool:
    return b"Action=Publish" in call.body


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a run's own hooks be late as soon as it has ended."""
    monkeypatch.setattr("flows.restarts.HOOKS", timedelta(0))


@pytest.mark.usefixtures("late")
def test_an_end_that_sns_takes_long_to_accept_is_told_once(
    inbox: Inbox, runs: ImageRuns, created: UUID, sns: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.alive.BEAT", 0.0)
    monkeypatch.setattr("flows.alive._CHECK", 0.01)
    start(created)
    put(created, Completed(message="3 features"))
    with sns.holding(publishes) as hold, ThreadPoolExecutor() as threads:
        run = copy_context().run  # Prefect's settings belong to a context
        told = threads.submit(run, announce_end, None, read(created), Completed())
        until(lambda: hold.calls)
        claims: set[object] = set()
        while len(claims) < 5:
            claims.add(read(created).labels[CLAIM])
            observe(runs, 1)
        hold.go.set()
        told.result()
    observe(runs)
    assert statuses(inbox) == ["SUCCESS"]


@pytest.mark.usefixtures("late")
def test_an_end_whose_claimant_died_is_told_by_a_sensor(
    inbox: Inbox, runs: ImageRuns, created: UUID
) -> None:
    put(created, Completed())
    with get_client(sync_client=True) as prefect:
        prefect.update_flow_run_labels(created, {CLAIM: "a process that was killed"})
    observe(runs, 1)
    assert statuses(inbox) == []
    observe(runs)
    assert statuses(inbox) == ["SUCCESS"]


@pytest.mark.usefixtures("late")
def test_of_two_sensors_one_tells_an_end(inbox: Inbox, created: UUID) -> None:
    put(created, Completed())
    sensors = [ImageRuns(f"image/{inbox.deployment}") for _ in range(2)]
    with ThreadPoolExecutor() as threads:
        done = [threads.submit(copy_context().run, each.reconcile) for each in sensors]
        for each in done:
            each.result()
    assert statuses(inbox) == ["SUCCESS"]


@pytest.mark.usefixtures("late")
def test_a_hook_whose_claim_comes_after_a_sensor_has_told_the_end_is_silent(
    inbox: Inbox, runs: ImageRuns, created: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.announce._PROMPT", timedelta(0))
    # the sensor is another process
    monkeypatch.setattr("flows.run_records._LABELS", nullcontext())
    put(created, Completed())
    held, told = Event(), Event()

    def hold_claim(request: httpx.Request) -> None:
        if request.url.path.endswith("/labels") and current_thread().name.startswith("hook"):
            held.set()
            told.wait()

    with prefect_answers(hold_claim), ThreadPoolExecutor(1, "hook") as hook:
        run = copy_context().run
        end = hook.submit(run, announce_end, None, read(created), Completed())
        held.wait()
        observe(runs, 1)
        told.set()
        end.result()
    assert statuses(inbox) == ["SUCCESS"]


def test_an_end_that_sns_refused_is_told_later(
    inbox: Inbox, runs: ImageRuns, created: UUID, sns: FaultyProxy
) -> None:
    put(created, Completed())
    with sns.failing(publishes, status(403, "AuthorizationError")):
        announce_end(None, read(created), Completed())
    assert statuses(inbox) == []
    observe(runs, 1)
    assert statuses(inbox) == ["SUCCESS"]
