"""What regions of an image learn about its endpoint, each in a run of its own with its own client.

An image's run starts its regions' runs on a work pool; here they are subflows of one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.abort import AbortSignal
from flows.capacity import earlier_estimate
from flows.region import region as region_flow
from flows.regions import run_regions
from tasks.grid.tiles import Region
from tasks.inference.concurrency_estimator import START, CapacityEstimate
from tasks.job.kept import Kept
from tasks.planning.plan import Plan, make_plan
from tests.job_scene import paint, request

pytestmark = pytest.mark.usefixtures("prefect_api")

LONG = 60.0  # seconds: a wait that only a failing test waits for
LEARNED = {"concurrency": 12, "latency": 0.25, "concurrent_regions": 1}
SHIP = {
    "type": "Feature",
    "geometry": None,
    "properties": {"imageBBox": [4, 4, 20, 20], "featureClasses": [{"iri": "ship", "score": 0.9}]},
}
ANSWER = json.dumps({"type": "FeatureCollection", "features": [SHIP]}).encode()


class Model(ThreadingHTTPServer):
    """A model that can wait for a number of concurrent calls before it answers.

    Attributes:
        least: Concurrent calls without which it does not answer.
        missed: Whether a call was answered although there were fewer.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.least, self.missed = 1, False
        self._changed, self._calls, self._reached = Condition(), 0, False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def wait_for(self, calls: int) -> None:
        """Answer only when this many calls have been in flight."""
        self.least, self._reached = calls, False

    def call(self) -> None:
        with self._changed:
            self._calls += 1
            self._reached = self._reached or self._calls >= self.least
            self._changed.notify_all()
            self.missed |= not self._changed.wait_for(lambda: self._reached, LONG)
        time.sleep(0.03)
        with self._changed:
            self._calls -= 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Model

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.call()
        self.send_response(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass


@pytest.fixture
def model() -> Iterator[Model]:
    with Model() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def plan(allowed: Path, model: Model) -> Plan:
    asked = request(
        paint(allowed / "scene.tif", 800, 800),
        allowed / "out",
        imageProcessor={"name": model.url, "type": "HTTP_ENDPOINT"},
        imageProcessorTileSize=64,
        imageProcessorTileOverlap=0,
        imageProcessorTileFormat="GTIFF",
    )
    return make_plan(asked, asked.image_urls[0])


def work(plan: Plan, region: Region, folder: Path) -> dict[str, Any]:
    """Run a region; returns the metrics on its run."""
    end: State[Any] = region_flow(
        plan.request, plan.image.url, plan.image.etag, region, str(folder), return_state=True
    )
    assert end.is_completed(), end.message
    assert end.result()["inferred"] > 0
    assert end.state_details.flow_run_id is not None
    with get_client(sync_client=True) as client:
        return dict(client.read_flow_run(end.state_details.flow_run_id).labels)


def stored(folder: Path, region: Region) -> dict[str, bytes]:
    """The bytes of the files of a region, by what each is."""
    files = folder.rglob(f"{region.block}.*.parquet")
    return {path.name.split(".")[-2]: path.read_bytes() for path in files}


def test_a_region_begins_with_as_many_calls_as_the_last_one_learned(
    plan: Plan, model: Model, allowed: Path
) -> None:
    first, second = plan.regions(400)

    @flow
    def of_an_image() -> None:
        learned = work(plan, first, allowed / "a")
        assert learned["swath.concurrency"] >= 1
        assert learned["swath.latency"] > 0.03
        assert learned["swath.concurrent_regions"] == 1
        # how many calls a region learns depends on how busy the machine is
        left({f"swath.{name}": value for name, value in LEARNED.items()}, "Completed")
        # one that began with four calls would make no fifth before an answer
        model.wait_for(START + 1)
        work(plan, second, allowed / "a")
        assert not model.missed

    of_an_image()
    model.wait_for(1)
    work(plan, second, allowed / "b")  # without an image's run
    assert stored(allowed / "a", second) == stored(allowed / "b", second) != {}


def test_an_image_of_one_region_leaves_its_client_to_no_other_run(
    plan: Plan, allowed: Path
) -> None:
    whole, region = plan.regions(800)[0], plan.regions(400)[0]

    @flow
    def of_an_image() -> None:
        folder = allowed / "a"
        assert run_regions(plan, [whole], [whole], Kept(str(folder)), AbortSignal()) == {}
        assert work(plan, region, allowed / "b")["swath.concurrency"] >= 1

    of_an_image()


@flow
def left(labels: dict[str, Any], end: str) -> State[None]:
    """A region's run that ended with some metrics."""
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(UUID(flow_run.id), labels)
    return Failed() if end == "Failed" else Completed(name=end)


@flow
def begins() -> CapacityEstimate | None:
    """A region's run that begins."""
    return earlier_estimate()


def estimate(metrics: dict[str, float], end: str = "Completed") -> CapacityEstimate | None:
    """The estimate with which a region begins after one that ended with some metrics."""

    @flow
    def of_an_image() -> CapacityEstimate | None:
        left({f"swath.{name}": value for name, value in metrics.items()}, end, return_state=True)
        return begins()

    return of_an_image()


def test_the_estimate_of_the_last_region_is_read_from_its_run() -> None:
    assert estimate(LEARNED) == CapacityEstimate(12, 0.25)
    assert estimate(LEARNED, "Failed") is None
    assert estimate(LEARNED, "Endpoint down") is None


def test_a_region_whose_answers_were_kept_hides_no_estimate() -> None:
    @flow
    def of_an_image() -> CapacityEstimate | None:
        left({f"swath.{name}": value for name, value in LEARNED.items()}, "Completed")
        left({}, "Completed")
        return begins()

    assert of_an_image() == CapacityEstimate(12, 0.25)


def test_regions_share_what_fewer_learned() -> None:
    ended, ready = Event(), [Event(), Event()]

    @flow
    def runs_beside(number: int) -> None:
        ready[number].set()
        assert ended.wait(LONG)

    @flow
    def of_an_image() -> CapacityEstimate | None:
        left({f"swath.{name}": value for name, value in LEARNED.items()}, "Completed")
        with ThreadPoolExecutor(2) as threads:
            for number in range(2):
                threads.submit(copy_context().run, runs_beside, number)
            try:
                assert all(event.wait(LONG) for event in ready)
                return begins()
            finally:
                ended.set()

    assert of_an_image() == CapacityEstimate(4, 0.25)


def test_a_prefect_that_does_not_answer_stops_no_region(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nobody = SyncPrefectClient("http://127.0.0.1:9/api")
    monkeypatch.setattr("flows.capacity.client_without_retries", lambda: nobody)
    assert estimate(LEARNED) is None
    assert "The metrics of the last region cannot be read" in caplog.text
