"""An image's run waits for a region's: one run at a time, whatever Prefect answers meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from itertools import count
from threading import Event, Thread
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect import flow, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterName,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled, Cancelling, Completed, Pending, Running

from flows.abort import AbortSignal
from flows.cancel import cancel, cancel_regions
from flows.labels import ALIVE
from flows.region import region as region_flow
from flows.region_attempt import run_region
from flows.region_queue import RegionQueue
from tasks.grid.tiles import Grid
from tasks.request import Request
from tasks.settings import settings
from tests.prefect_faults import Fault, page, prefect_answers, refusal

pytestmark = pytest.mark.usefixtures("prefect_api")

TASK = "arn:aws:ecs:us-east-1:1:cluster/c::arn:aws:ecs:us-east-1:1:task/c/1"
REQUEST = Request.model_validate(
    {
        "jobId": "job-1",
        "imageUrls": ["s3://images/a.tif"],
        "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
        "imageProcessor": {"name": "ships", "type": "SM_ENDPOINT"},
    }
)
REGION = Grid(500, 500, 256, 0).regions(10_000)[0]


def attempt(abort: AbortSignal | None = None) -> State[None]:
    """The final state of one attempt at a region, in a run that stands for an image's."""
    abort = abort or AbortSignal()
    queue = RegionQueue(settings().region_deployment or "", REQUEST, abort)

    @flow
    def waiting() -> None:
        end: State[None] = run_region(
            REQUEST,
            REQUEST.image_urls[0],
            "1",
            REGION,
            "/tmp/work",
            abort=abort,
            queue=queue,
            return_state=True,
        )
        ends.append(end)

    ends: list[State[None]] = []
    waiting()
    return ends[0]


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A deployment of the region flow that no worker serves."""
    name = f"there-{uuid4().hex[:8]}"
    region_flow.to_deployment(name).apply()  # type: ignore[union-attr]
    monkeypatch.setenv("SWATH_REGION_DEPLOYMENT", f"region/{name}")
    monkeypatch.setattr("flows.region_attempt._POLL", 0.05)
    settings.cache_clear()
    yield name
    settings.cache_clear()


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ECS tasks that were stopped."""
    tasks: list[str] = []
    monkeypatch.setattr("tasks.aws.ecs.stop", lambda task, _: tasks.append(task))
    return tasks


def runs(deployment: str) -> list[FlowRun]:
    name = DeploymentFilter(name=DeploymentFilterName(any_=[deployment]))
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(deployment_filter=name)


@contextmanager
def worker(deployment: str, work: Callable[[FlowRun], None]) -> Iterator[None]:
    """Do something with the first run of a deployment, as soon as there is one."""
    ended = Event()

    def look() -> None:
        while not ended.wait(0.05):
            if found := runs(deployment):
                work(found[0])
                return

    thread = Thread(target=copy_context().run, args=(look,))  # on the same Prefect server
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def set_state(run: FlowRun, state: State[Any]) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, state, force=True)


def on_ecs(run: FlowRun) -> None:
    """Have a run be on an ECS task."""
    with get_client(sync_client=True) as client:
        client.update_flow_run(run.id, infrastructure_pid=TASK)
    set_state(run, Running())


def reads(answer: Callable[[int], httpx.Response | None]) -> Fault:
    """Faults in reading one flow run, by their number from 0."""
    numbers = count()

    def fault(request: httpx.Request) -> httpx.Response | None:
        reads = request.method == "GET" and is_id(request.url.path.rpartition("/flow_runs/")[2])
        return answer(next(numbers)) if reads else None

    return fault


def let_read(read: Event) -> None:
    """Let a run be read once more, from beginning to end.

    Args:
        read: Set when a read begins.
    """
    for _ in range(2):
        read.clear()
        assert read.wait(120)


def is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    "answer",
    [
        lambda: refusal(401),
        lambda: refusal(403),
        lambda: refusal(408),
        lambda: refusal(429),
        lambda: refusal(500),
        lambda: refusal(503),
        page,
    ],
    ids=["401", "403", "408", "429", "500", "503", "page"],
)
def test_a_region_is_waited_for_while_prefect_does_not_answer(
    deployment: str, answer: Callable[[], httpx.Response]
) -> None:
    failing, seen = Event(), Event()

    def fail(number: int) -> httpx.Response | None:
        if not failing.is_set():
            return None
        if number > 15:  # two calls and what Prefect's client repeats of them by itself
            seen.set()
            return None
        return answer()

    def work(run: FlowRun) -> None:
        set_state(run, Running())
        failing.set()
        assert seen.wait(120)
        set_state(run, Completed())

    with worker(deployment, work), prefect_answers(reads(fail)):
        end = attempt()
    assert end.is_completed(), end.message
    assert len(runs(deployment)) == 1


def test_the_task_of_a_run_that_was_deleted_is_stopped(deployment: str, stopped: list[str]) -> None:
    read = Event()

    def work(run: FlowRun) -> None:
        on_ecs(run)
        let_read(read)
        with get_client(sync_client=True) as client:
            client.delete_flow_run(run.id)

    with worker(deployment, work), prefect_answers(reads(lambda _: read.set())):
        end = attempt()
    assert end.is_failed()
    assert "was deleted in Prefect" in str(end.message)
    assert stopped == [TASK]


def test_a_run_that_prefect_does_not_show_for_long_is_cancelled_and_its_task_stopped(
    deployment: str, stopped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.region_attempt._LONGEST_REFUSAL", 0.5)
    read, refusing = Event(), Event()

    def fail(_: int) -> httpx.Response | None:
        read.set()
        return refusal(401) if refusing.is_set() else None

    def work(run: FlowRun) -> None:
        on_ecs(run)
        let_read(read)
        refusing.set()

    with worker(deployment, work), prefect_answers(reads(fail)):
        end = attempt()
    assert "cannot be read in Prefect" in str(end.message)
    assert stopped == [TASK]
    (run,) = runs(deployment)
    assert run.state_name == "Cancelled"


def test_a_run_that_cannot_be_cancelled_at_once_is_cancelled_before_a_second_may_start(
    deployment: str, stopped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWATH_START_TIMEOUT", "1")
    settings.cache_clear()
    failures = count()

    def fault(request: httpx.Request) -> httpx.Response | None:
        cancels = request.url.path.endswith("/set_state") and b"CANCEL" in request.content
        return refusal(500) if cancels and next(failures) < 3 else None

    def work(run: FlowRun) -> None:
        set_state(run, Pending())

    with worker(deployment, work), prefect_answers(fault):
        end = attempt()
    assert "SWATH_START_TIMEOUT" in str(end.message)
    (run,) = runs(deployment)
    assert run.state_name == "Cancelled"


def test_a_run_whose_creation_was_not_answered_is_the_one_that_is_waited_for(
    deployment: str,
) -> None:
    creations = count()

    def lose(request: httpx.Request) -> httpx.Response | None:
        if not request.url.path.endswith("/create_flow_run") or next(creations) > 0:
            return None
        httpx.post(request.url, content=request.content, headers=request.headers)
        raise httpx.ReadError("the connection broke")

    def work(run: FlowRun) -> None:
        set_state(run, Completed())

    with worker(deployment, work), prefect_answers(lose):
        end = attempt()
    assert end.is_completed(), end.message
    assert len(runs(deployment)) == 1


def test_a_deployment_that_does_not_exist_is_not_waited_for(
    deployment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWATH_REGION_DEPLOYMENT", "region/nowhere")
    settings.cache_clear()
    assert attempt().is_failed()


def show_life(run: FlowRun, sign: str) -> None:
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(run.id, {ALIVE: sign})


def test_a_run_that_shows_no_life_any_more_is_replaced(
    deployment: str, stopped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.alive.SILENCE", 3.0)
    read = Event()

    def work(run: FlowRun) -> None:
        on_ecs(run)
        for sign in range(8):  # together longer than the silence after which it counts as dead
            show_life(run, str(sign))
            let_read(read)
            Event().wait(0.5)
        assert not stopped
        # and now its process is killed

    with worker(deployment, work), prefect_answers(reads(lambda _: read.set())):
        end = attempt()
    assert "shown no life" in str(end.message)
    assert stopped == [TASK]
    (run,) = runs(deployment)
    assert run.state_name == "Cancelled"


def test_a_run_that_nobody_cancels_although_it_was_asked_for_does_not_block_its_image(
    deployment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.alive.SILENCE", 2.0)

    def work(run: FlowRun) -> None:
        set_state(run, Running())
        set_state(run, Cancelling())

    with worker(deployment, work):
        end = attempt()
    assert end.is_failed()
    (run,) = runs(deployment)
    assert run.state_name == "Cancelled"


@pytest.mark.parametrize("answers", [True, False], ids=["Prefect answers", "Prefect does not"])
def test_the_end_of_the_image_ends_the_waiting_and_cancels_the_region(
    deployment: str, *, answers: bool
) -> None:
    abort, ended = AbortSignal(), Event()

    read = Event()

    def fail(_: int) -> httpx.Response | None:
        read.set()
        return refusal(503) if ended.is_set() and not answers else None

    def work(run: FlowRun) -> None:
        set_state(run, Running())
        let_read(read)
        ended.set()
        abort.end("the image was cancelled")

    with worker(deployment, work), prefect_answers(reads(fail)):
        end = attempt(abort)
    assert "the image was cancelled" in str(end.message)
    (run,) = runs(deployment)
    assert run.state_name == "Cancelling"
    assert "the image was cancelled" in str(attempt(abort).message)
    assert len(runs(deployment)) == 1


def test_a_region_that_is_being_cancelled_is_not_cancelled_anew() -> None:
    @flow
    def child() -> None:
        """Do nothing."""

    with get_client(sync_client=True) as client:
        created = client.create_flow_run(child, state=Running())
        set_state(created, Cancelling())
        read = client.read_flow_run(created.id)
        set_state(created, Cancelled())  # by its worker, in the meantime
        cancel(client, read, "its image's run ended")
        assert client.read_flow_run(created.id).state_name == "Cancelled"


def test_one_region_that_cannot_be_cancelled_does_not_keep_the_others_at_work() -> None:
    @flow
    def child() -> None:
        """Do nothing."""

    @flow
    def parent() -> None:
        child()
        child()
        child()

    with get_client(sync_client=True) as client:
        state = parent(return_state=True)
        run_id = state.state_details.flow_run_id
        assert run_id is not None
        image = client.read_flow_run(run_id)
        for run in children_of(image):
            client.set_flow_run_state(run.id, Running(), force=True)
        refused = count()

        def fault(request: httpx.Request) -> httpx.Response | None:
            sets = request.url.path.endswith("/set_state")
            return refusal(403) if sets and next(refused) == 0 else None

        with prefect_answers(fault), pytest.raises(httpx.HTTPStatusError):
            cancel_regions(None, image, Completed())
    names = sorted(str(run.state_name) for run in children_of(image))
    assert names == ["Cancelling", "Cancelling", "Running"]


def children_of(run: FlowRun) -> list[FlowRun]:
    children = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=children)
