"""Images take turns on a work pool: the order in which the regions of two images get its places.

The pool and its limit are Prefect's; its worker is a thread here, which sets the states of runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import Context, copy_context
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect import flow, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State
from prefect.states import Completed, Pending, Running

from flows.abort import AbortSignal
from flows.region import region as region_flow
from flows.regions import run_regions
from tasks.errors import RegionLostError
from tasks.job.kept import Kept
from tasks.planning.plan import Plan, make_plan
from tasks.settings import settings
from tests.job_scene import paint, request
from tests.polling import until
from tests.prefect_faults import prefect_answers, refusal

pytestmark = pytest.mark.usefixtures("prefect_api")

REGIONS = 8  # of each image
WORK_POLLS = 6  # polls of the worker for which a region takes its place


class Worker:
    """A worker of a work pool.

    Attributes:
        pool: Name of the pool.
        started: The image of each region that has started, in the order of the starts.
        holds: Whether regions run until `end` is called.
    """

    def __init__(self, api: str, pool: str) -> None:
        self.pool, self.started = pool, list[str]()
        self._url = f"{api}/work_pools/{pool}"
        self._running: dict[UUID, int] = {}
        self._owners: dict[UUID, str] = {}
        self.holds = False
        self._to_end: list[str] = []

    def waiting(self) -> list[str]:
        """Ids of the runs that wait for a place, whether there is one or not."""
        return [run["id"] for run in self._read("SCHEDULED")]

    def unfinished(self) -> Counter[str]:
        """By owner, the runs that have a place or wait for one."""
        runs = self._read("SCHEDULED", "PENDING", "RUNNING")
        return Counter(owner_of(run["tags"]) for run in runs)

    def running(self) -> Counter[str]:
        """By owner, the runs that have a place."""
        return Counter(self._owners[run] for run in [*self._running])

    def end(self, owner: str) -> None:
        """End one region of an owner that runs, and wait until its place is taken again."""
        number = len(self.started)
        self._to_end.append(owner)
        until(lambda: len(self.started) > number, lambda: self.started)

    def _read(self, *states: str) -> list[dict[str, Any]]:
        filter_ = {
            "flow_runs": {"state": {"type": {"any_": states}}},
            "work_pools": {"name": {"any_": [self.pool]}},
        }
        url = self._url.rpartition("/work_pools/")[0] + "/flow_runs/filter"
        answer = httpx.post(url, json=filter_, timeout=60)
        return list(answer.raise_for_status().json())

    def work(self, ended: Event) -> None:
        """Start the runs that Prefect gives to a worker; each ends after some polls."""
        with get_client(sync_client=True) as client:

            def set_state(run: UUID, state: State[None]) -> None:
                client.set_flow_run_state(run, state, force=True)

            while not ended.wait(0.3):
                for run in self._ending():
                    set_state(run, Completed())
                    del self._running[run]
                answer = httpx.post(f"{self._url}/get_scheduled_flow_runs", json={}, timeout=60)
                for found in answer.raise_for_status().json():
                    run = UUID(found["flow_run"]["id"])
                    set_state(run, Pending())
                    set_state(run, Running())
                    self._owners[run] = owner_of(found["flow_run"]["tags"])
                    self._running[run] = 0
                    self.started.append(found["flow_run"]["parameters"]["image_url"])
                self._running = {run: polls + 1 for run, polls in self._running.items()}

    def _ending(self) -> list[UUID]:
        """The regions that end now."""
        if not self.holds:
            return [run for run, polls in self._running.items() if polls >= WORK_POLLS]
        owners = [self._to_end.pop() for _ in range(len(self._to_end))]
        return [
            next(run for run in self._running if self._owners[run] == owner) for owner in owners
        ]


def owner_of(tags: list[str]) -> str:
    return next((tag.partition(":")[2] for tag in tags if tag.startswith("owner:")), "")


@contextmanager
def in_thread(function: Callable[..., object], *arguments: object) -> Iterator[Thread]:
    """Run a function in another thread, on the same Prefect server."""
    context: Context = copy_context()
    thread = Thread(target=context.run, args=(function, *arguments), daemon=True)
    thread.start()
    yield thread
    thread.join()


@pytest.fixture
def pool(
    request: pytest.FixtureRequest, prefect_api: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Worker]:
    """A work pool and the regions' deployment, one of them with the limit of the test."""
    name, (limited, places) = f"pool-{uuid4().hex[:8]}", request.param
    with get_client(sync_client=True) as client:
        pool = WorkPoolCreate(name=name, type="process")
        client.create_work_pool(
            pool.model_copy(update={"concurrency_limit": places}) if limited == "pool" else pool
        )
        client.create_deployment(
            client.create_flow(region_flow),
            name,
            work_pool_name=name,
            work_queue_name="regions",
            concurrency_limit=places if limited == "deployment" else None,
        )
    monkeypatch.setenv("SWATH_REGION_DEPLOYMENT", f"region/{name}")
    settings.cache_clear()
    yield Worker(prefect_api, name)
    settings.cache_clear()


def plan_of(folder: Path, name: str, owner: str | None = None, priority: int = 0) -> Plan:
    asked = request(
        paint(folder / name, 400, REGIONS * 100),
        folder / "out",
        imageProcessorTileSize=100,
        imageProcessorTileOverlap=0,
        priority=priority,
        tags={} if owner is None else {"owner": owner},
    )
    return make_plan(asked, asked.image_urls[0])


def image(plan: Plan, folder: Path, abort: AbortSignal | None = None) -> None:
    """Run the regions of an image in a run that stands for the image's, until it is aborted."""
    regions = plan.regions(100)
    assert len(regions) == REGIONS

    @flow
    def running() -> None:
        run_regions(plan, regions, regions, Kept(str(folder)), abort or AbortSignal())

    if abort is None:
        running()
    else:
        running(return_state=True)


@pytest.mark.parametrize("pool", [("pool", 2), ("deployment", 2)], indirect=True)
def test_an_image_that_comes_later_gets_a_place_before_the_regions_of_the_first_are_through(
    pool: Worker, allowed: Path
) -> None:
    first, second = plan_of(allowed, "a.tif"), plan_of(allowed, "b.tif")
    ended = Event()
    with in_thread(pool.work, ended), in_thread(image, first, allowed / "a") as one:
        until(lambda: len(pool.started) >= 2)
        with in_thread(image, second, allowed / "b") as two:
            until(lambda: not (one.is_alive() or two.is_alive()), lambda: pool.started)
        ended.set()
    order = [Path(url).name for url in pool.started]
    assert sorted(order) == ["a.tif"] * REGIONS + ["b.tif"] * REGIONS
    # of the first image the two that had a place, the one that waited, and those meanwhile
    assert order.index("b.tif") <= 5, order
    both = order[order.index("b.tif") : -REGIONS]
    assert both.count("a.tif") <= both.count("b.tif") + 2, order


@pytest.mark.parametrize("pool", [("deployment", REGIONS - 1)], indirect=True)
def test_as_many_regions_as_there_are_free_places_are_submitted_at_once(
    pool: Worker, allowed: Path
) -> None:
    ended = Event()
    with in_thread(image, plan_of(allowed, "a.tif"), allowed / "a") as one:
        until(lambda: len(pool.waiting()) == REGIONS - 1, pool.waiting)  # without a worker
        with in_thread(pool.work, ended):
            until(lambda: not one.is_alive(), lambda: pool.started)
            ended.set()
    assert len(pool.started) == REGIONS


@pytest.mark.parametrize("pool", [("deployment", 4)], indirect=True)
def test_owners_share_the_places_whatever_the_number_of_their_images(
    pool: Worker, allowed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.alive.SILENCE", 3600.0)  # the regions here have no process
    monkeypatch.setenv("SWATH_OWNER_QUOTAS", '{"c": {"regions": 1}}')
    settings.cache_clear()
    plans = {
        name: plan_of(allowed, f"{name}.tif", name[0]) for name in ("a1", "a2", "a3", "b1", "c1")
    }
    ended, abort, pool.holds = Event(), AbortSignal(), True
    with ExitStack() as stack:
        stack.enter_context(in_thread(pool.work, ended))
        stack.callback(ended.set)

        def begin(name: str) -> None:
            stack.enter_context(in_thread(image, plans[name], allowed / name, abort))

        try:
            begin("a1")
            # one region waits, so that a place that becomes free is filled at once
            until(lambda: pool.unfinished() == {"a": 4 + 1} and pool.running() == {"a": 4})
            begin("b1")
            # half of 4, and of 2 that wait
            until(lambda: pool.unfinished()["b"] == 3, pool.unfinished)
            begin("a2")
            begin("a3")
            for _ in range(3):
                pool.end("a")
            until(lambda: pool.running() == {"a": 2, "b": 2}, pool.running)
            until(lambda: pool.unfinished() == {"a": 3, "b": 3}, pool.unfinished)
            begin("c1")
            until(lambda: pool.unfinished()["c"] == 1, pool.unfinished)
            while not pool.running()["c"]:
                pool.end(pool.running().most_common(1)[0][0])
            pool.end("b")
            assert pool.unfinished()["c"] == 1
        finally:
            abort.end("the test is over")


@pytest.mark.parametrize("status", [503, 401])
@pytest.mark.parametrize("pool", [("deployment", 4)], indirect=True)
def test_a_quota_holds_while_the_regions_cannot_be_counted(
    pool: Worker, allowed: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr("flows.alive.SILENCE", 3600.0)  # the regions here have no process
    monkeypatch.setenv("SWATH_OWNER_QUOTAS", '{"a": {"regions": 1}}')
    settings.cache_clear()
    refused = list[httpx.Request]()

    def fault(request: httpx.Request) -> httpx.Response | None:
        if not request.url.path.endswith("/flow_runs/count"):
            return None
        refused.append(request)
        return refusal(status)

    ended, abort, pool.holds = Event(), AbortSignal(), True
    plan = plan_of(allowed, "a.tif", "a")
    with in_thread(pool.work, ended), in_thread(image, plan, allowed / "a", abort):
        try:
            until(lambda: pool.running() == {"a": 1}, pool.running)
            with prefect_answers(fault):
                until(lambda: len(refused) >= 3, lambda: refused)
                assert pool.unfinished() == {"a": 1}
        finally:
            abort.end("the test is over")
            ended.set()


def test_of_a_run_that_others_ended_nothing_is_merged(prefect_api: str, allowed: Path) -> None:
    plan, abort = plan_of(allowed, "a.tif"), AbortSignal()
    abort.end("it was cancelled")

    @flow
    def running() -> None:
        run_regions(plan, plan.regions(100), plan.regions(100), Kept(str(allowed)), abort)

    with pytest.raises(RegionLostError, match="it was cancelled"):
        running()
