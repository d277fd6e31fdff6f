"""The limit on calls to one endpoint over all images: real flow runs on a real Prefect server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from prefect import flow, get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import (
    GlobalConcurrencyLimitCreate,
    GlobalConcurrencyLimitUpdate,
)
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.local.prefect_server import PrefectServer, start_server
from deployments.local.processes import Processes
from flows.endpoint_limit import limit_name
from flows.slots import endpoint_slots
from tasks.imagery import TilePixels
from tasks.inference.limiter import Limiter, LimiterClosedError
from tasks.request import Request
from tasks.settings import settings
from tests.polling import until

pytestmark = pytest.mark.usefixtures("prefect_api")
TIMEOUT = 150.0  # seconds; a lease lasts 60, on a busy machine longer


class InFlight:
    """Counts the calls in flight, and the most that ever were."""

    def __init__(self) -> None:
        self._lock, self._now, self.most = Lock(), 0, 0

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._now -= 1


@dataclass
class Endpoint:
    """An endpoint that answers a call in 5 ms, whatever their number."""

    capacity: int | None = None
    in_flight: InFlight = field(default_factory=InFlight)
    local: bool = False
    tiles_per_call: int = 1

    def prepare(self, tile: TilePixels) -> Any:
        return tile

    def ask(self, prepared: Any) -> Any:
        with self.in_flight:
            time.sleep(0.005)
        return prepared

    def close(self) -> None:
        """Nothing to let go of."""


def request(name: str, **processor: Any) -> Request:
    message = {
        "jobId": "job",
        "imageUrls": ["s3://images/scene.tif"],
        "outputs": [{"type": "S3", "bucket": "out", "prefix": ""}],
        "imageProcessor": {"name": name, "type": "SM_ENDPOINT"} | processor,
    }
    return Request.parse(json.dumps(message))


@dataclass
class Region:
    """A region that calls from a number of threads, as often as it may."""

    endpoint: str
    threads: int
    capacity: int | None = None
    in_flight: InFlight = field(default_factory=InFlight)
    limiter: Limiter = field(default_factory=lambda: Limiter(0))
    calls: int = 0
    run: UUID | None = None
    ended: Event = field(default_factory=Event)

    def work(self) -> None:
        self.run = UUID(flow_run.id)
        endpoint = Endpoint(self.capacity, self.in_flight)
        callers = [Thread(target=self._call, args=(endpoint,)) for _ in range(self.threads)]
        with endpoint_slots(request(self.endpoint), endpoint, self.limiter, default_limit=8):
            for caller in callers:
                caller.start()
            self.ended.wait()
            self.limiter.close()
            for caller in callers:
                caller.join()

    def _call(self, endpoint: Endpoint) -> None:
        with suppress(LimiterClosedError):
            while True:
                with self.limiter.permit():
                    endpoint.ask(None)
                self.calls += 1  # about: the threads do not wait for each other


AT_WORK: dict[str, list[Region]] = {}  # flows take no threads as parameters


@flow
def region_run(image: str, number: int) -> None:
    AT_WORK[image][number].work()


@flow
def image_run(image: str) -> None:
    regions = [
        Thread(target=copy_context().run, args=(region_run, image, number))
        for number in range(len(AT_WORK[image]))
    ]
    for region in regions:
        region.start()
    for region in regions:
        region.join()


class Image:
    """An image's run, with its regions at work until it is ended."""

    def __init__(self, *regions: Region) -> None:
        self.regions, self._name = regions, uuid4().hex
        AT_WORK[self._name] = list(regions)
        self._thread = Thread(target=copy_context().run, args=(image_run, self._name))
        self._thread.start()

    @property
    def most(self) -> list[int]:
        """Calls that each region may make at a time."""
        return [region.limiter.max_in_flight for region in self.regions]

    def end(self) -> None:
        for region in self.regions:
            region.ended.set()
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


@pytest.fixture
def name() -> str:
    return f"model-{uuid4().hex[:8]}"


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


@dataclass
class Limit:
    """The limit of an endpoint, as an operator sees it."""

    client: SyncPrefectClient
    name: str

    def read(self) -> GlobalConcurrencyLimitResponse:
        return self.client.read_global_concurrency_limit_by_name(self.name)

    @property
    def taken(self) -> int:
        return self.read().active_slots

    def update(self, **fields: Any) -> None:
        change = GlobalConcurrencyLimitUpdate(**fields)
        self.client.update_global_concurrency_limit(self.name, change)


@pytest.fixture
def limit(client: SyncPrefectClient, name: str) -> Limit:
    return Limit(client, limit_name(request(name)))


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[PrefectServer]:
    """A server with all its services: that of the other tests ends no leases."""
    with Processes() as processes:
        server = start_server(processes, tmp_path)
        server.wait()
        yield server


@contextmanager
def limit_on(server: PrefectServer, endpoint: str) -> Iterator[Limit]:
    """An endpoint's limit on a server, which flows run on meanwhile."""
    with (
        temporary_settings({PREFECT_API_URL: server.api_url}),
        get_client(sync_client=True) as client,
    ):
        let_go_of_server()
        yield Limit(client, limit_name(request(endpoint)))
        let_go_of_server()


def let_go_of_server() -> None:
    """Have Prefect's threads send what they have, and begin anew with the next flow run."""
    APILogHandler().flush()
    EventsWorker.drain_all(timeout=10, at_exit=False)


def test_the_limit_is_created_with_the_capacity_and_kept_as_the_operator_set_it(
    name: str, limit: Limit
) -> None:
    with Image(Region(name, 20, capacity=6)) as image:
        until(lambda: image.most == [6])
        made = limit.read()
        assert (made.limit, made.active_slots, made.slot_decay_per_second) == (6, 6, 0)
    assert limit.taken == 0
    limit.update(limit=3)
    with Image(Region(name, 20, capacity=9)) as image:
        until(lambda: image.most == [3])
        assert limit.read().limit == 3


def test_a_limit_is_shared_by_images_and_then_by_their_regions(name: str, limit: Limit) -> None:
    with Image(Region(name, 20)) as first:
        until(lambda: first.most == [8])
        with Image(Region(name, 20), Region(name, 20)) as second:
            until(
                lambda: (first.most, second.most) == ([4], [2, 2]),
                lambda: (first.most, second.most),
            )
            with Image(Region(name, 1)) as modest:
                until(lambda: modest.most == [1])
                until(
                    lambda: sum(first.most + second.most) == 7 and first.most[0] in {3, 4},
                    lambda: (first.most, second.most),
                )
                until(lambda: limit.taken == 8)
            until(lambda: (first.most, second.most) == ([4], [2, 2]))
        until(lambda: first.most == [8])
    assert limit.taken == 0


def test_never_are_more_calls_in_flight_than_there_are_slots(name: str, limit: Limit) -> None:
    in_flight = InFlight()
    regions = [Region(name, 10, capacity=5, in_flight=in_flight) for _ in range(3)]
    images: list[Image] = []
    try:
        for region in regions:
            images.append(Image(region))
            until(lambda region=region: region.calls > 50)  # type: ignore[misc]
        until(lambda: in_flight.most == 5)
    finally:
        for image in images:
            image.end()
    assert in_flight.most == 5


def test_a_region_without_a_slot_logs_that_and_gets_one_later(
    name: str, limit: Limit, client: SyncPrefectClient
) -> None:
    first, second = Region(name, 4, capacity=1), Region(name, 4, capacity=1)
    with Image(first) as image:
        until(lambda: image.most == [1])
        with Image(second) as other:
            until(lambda: "Waits for slots to call" in logs(client, second))
            image.end()
            until(lambda: other.most == [1])
            until(lambda: second.calls > 0)


def test_a_limit_that_an_operator_changes_applies_during_a_run(name: str, limit: Limit) -> None:
    region = Region(name, 20, capacity=8)
    with Image(region) as image:
        until(lambda: image.most == [8])
        limit.update(limit=2)
        until(lambda: limit.taken == 2)
        assert image.most == [2]
        limit.update(limit=0)
        until(lambda: image.most == [0])
        until(lambda: region.limiter.in_flight == 0)
        paused = region.calls
        time.sleep(1)
        assert region.calls == paused
        limit.update(limit=12)
        until(lambda: image.most == [12])


def test_slots_that_are_not_used_are_released(name: str, limit: Limit) -> None:
    region = Region(name, 0, capacity=8)
    with Image(region, Region(name, 20)) as image:
        until(lambda: image.most == [0, 8])


def test_slots_that_are_not_used_go_to_others_of_the_owner_whose_quota_is_used_up(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWATH_OWNER_QUOTAS", '{"": {"calls": 8}}')
    settings.cache_clear()
    idle, busy = Region(name, 0, capacity=64), Region(name, 20, capacity=64)
    with Image(idle, busy) as image:
        until(lambda: image.most == [0, 8], lambda: image.most)
    settings.cache_clear()


def test_a_region_that_fails_releases_its_slots_at_once(name: str, limit: Limit) -> None:
    limiter = Limiter(0)

    @flow
    def failing() -> None:
        with endpoint_slots(request(name), Endpoint(4), limiter, default_limit=8):
            until(lambda: limiter.max_in_flight == 4)
            assert limit.taken == 4
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert limit.taken == 0


def test_an_endpoint_in_this_process_takes_no_slots(name: str) -> None:
    limiter = Limiter(3)
    with endpoint_slots(request(name), Endpoint(local=True), limiter, default_limit=8):
        assert limiter.max_in_flight == 3


KILLED = """
import sys
from prefect import flow
from flows.slots import endpoint_slots
from tasks.inference.limiter import Limiter
from tests.integration.test_slots import Endpoint, request
import time

@flow
def region(name: str) -> None:
    limiter = Limiter(0)
    with endpoint_slots(request(name), Endpoint(4), limiter, default_limit=8):
        while limiter.max_in_flight < 4:
            time.sleep(0.05)
        print("holds", flush=True)
        time.sleep(600)

region(sys.argv[1])
"""


def test_the_slots_of_a_killed_region_are_freed(name: str, own_server: PrefectServer) -> None:
    command = [sys.executable, "-c", KILLED, name]
    environment = os.environ | own_server.environment
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds\n"
        process.send_signal(signal.SIGKILL)
    with limit_on(own_server, name) as limit:
        assert limit.taken == 4
        with Image(Region(name, 20)) as image:
            until(lambda: image.most == [4])
            assert limit.taken == 4
        assert limit.taken == 0


class Line:
    """A line to the Prefect server that can be cut, and counts the requests on it."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._loop = asyncio.new_event_loop()
        self._ways: set[asyncio.StreamWriter] = set()
        self.requests, self.cut, self.url = 0, False, ""

    def __enter__(self) -> Self:
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._join, "127.0.0.1", 0)
        )
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}{self._target.path}"
        self._thread = Thread(target=self._loop.run_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._end())
        self._loop.close()

    def sever(self) -> None:
        """Cut it, and hang up on who speaks."""
        self.cut = True
        self._loop.call_soon_threadsafe(self._hang_up)

    def _hang_up(self) -> None:
        for way in self._ways:
            way.close()

    async def _end(self) -> None:
        self._server.close()
        self._hang_up()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _join(self, here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        if self.cut:
            back.close()
            return
        there, on = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._ways |= {back, on}
        await asyncio.gather(self._carry(here, on, count=True), self._carry(there, back))

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, count: bool = False
    ) -> None:
        with suppress(OSError, asyncio.CancelledError):
            while data := await source.read(65536):
                self.requests += data.count(b" HTTP/1.1\r\n") if count else 0
                sink.write(data)
                await sink.drain()
        sink.close()


@contextmanager
def line_to(url: str) -> Iterator[Line]:
    with Line(url) as line, temporary_settings({PREFECT_API_URL: line.url}):
        yield line
        EventsWorker.drain_all()  # else it speaks into a line that is gone, for a minute


def logs(client: SyncPrefectClient, region: Region) -> str:
    if region.run is None:
        return ""
    mine = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[region.run]))
    return "\n".join(log.message for log in client.read_logs(log_filter=mine, limit=200))


def test_calls_continue_while_prefect_does_not_answer(
    name: str, limit: Limit, prefect_api: str, client: SyncPrefectClient
) -> None:
    region = Region(name, 20, capacity=6)
    with line_to(prefect_api) as line, Image(region) as image:
        until(lambda: image.most == [6])
        line.sever()
        time.sleep(10)
        calls = region.calls
        until(lambda: region.calls > calls)
        assert image.most == [6]
        line.cut = False
        limit.update(limit=5)
        until(lambda: image.most == [5] and limit.taken == 5)
        until(lambda: "updated again" in logs(client, region))
        assert logs(client, region).count("cannot be updated") == 1


@pytest.mark.parametrize("after", ["a renewal", "an end"])
def test_a_server_that_restarts_and_forgets_its_leases_loses_no_slots(
    name: str, own_server: PrefectServer, after: str
) -> None:
    region = Region(name, 20, capacity=6)
    with Processes() as processes, limit_on(own_server, name) as limit:
        with Image(region) as image:
            until(lambda: image.most == [6])
            own_server.process.stop()
            calls = region.calls
            start_again(processes, own_server)
            until(lambda: region.calls > calls)
            if after == "a renewal":
                time.sleep(25)
                until(lambda: image.most == [6])
                assert limit.taken == 6
        assert limit.taken == 0


def start_again(processes: Processes, server: PrefectServer) -> None:
    """A server in place of one that ended, with its database."""
    start_server(processes, server.home.parent, port=server.port).wait()


def test_the_server_is_asked_seldom(name: str, prefect_api: str) -> None:
    def spoken(line: Line, seconds: float = 6.0) -> float:
        before = line.requests
        time.sleep(seconds)
        return (line.requests - before) / seconds

    with line_to(prefect_api) as line:
        with Image(Region(name, 8)) as image:
            until(lambda: image.most == [8])
            time.sleep(11)  # until it has settled
            alone = spoken(line)
        with Image(*[Region(name, 20) for _ in range(4)]) as image:
            until(lambda: image.most == [2] * 4)
            crowded = spoken(line)
    print(json.dumps({"requests per second": {"alone": alone, "4 regions, full": crowded}}))
    assert alone < 3
    assert crowded < 4 * 3


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ({"name": "aircraft"}, "SM_ENDPOINT aircraft"),
        (
            {"name": "aircraft", "assumedRole": "arn:aws:iam::123456789012:role/Invoke"},
            "SM_ENDPOINT aircraft of 123456789012",
        ),
        (
            {"name": "http://user:secret@models:8080/a?key=1", "type": "HTTP_ENDPOINT"},
            "HTTP_ENDPOINT models:8080-a ",
        ),
        ({"name": "http://models/<%&>/ü", "type": "OIP_ENDPOINT"}, "OIP_ENDPOINT models "),
    ],
)
def test_a_limit_is_named_after_its_endpoint(
    processor: dict[str, str], expected: str, client: SyncPrefectClient
) -> None:
    named = limit_name(request(**processor))
    assert named.startswith(expected)
    assert "secret" not in named
    client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=named, limit=1))
    assert client.read_global_concurrency_limit_by_name(named).limit == 1
    client.delete_global_concurrency_limit_by_name(named)


def test_endpoints_that_differ_in_hidden_parts_have_separate_limits() -> None:
    names = ["http://m/a?v=1", "http://m/a?v=2", "http://m/a/", "https://m/a", "http://m/a%2F"]
    assert len({limit_name(request(name, type="HTTP_ENDPOINT")) for name in names}) == len(names)
