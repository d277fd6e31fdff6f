"""Endpoints that go down, come back, hang, or fail on some tiles."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from threading import Event, Thread, Timer

import numpy as np
import pytest
from rasterio.windows import Window

from tasks.grid.tiles import Tile
from tasks.imagery import ReadTile, TilePixels
from tasks.inference.batch import Batch, infer
from tasks.inference.client import InferenceClient
from tasks.inference.http import HttpEndpoint
from tasks.inference.limiter import Limiter
from tasks.results import coverage
from tests.infer_tiles import infer_tiles

NOTHING = b'{"type":"FeatureCollection","features":[]}'
HANG, HANG_UP, ANSWER = "hang", "hang up", "answer"


class Server(ThreadingHTTPServer):
    """A model whose behaviour is set for each call."""

    daemon_threads = True
    calls = 0
    hung_to_the_end = 0

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.behave: Callable[[int], str] = lambda _: ANSWER
        self.over = Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what these tests are about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        tile = int(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.calls += 1
        match self.server.behave(tile):
            case "hang":
                self.server.hung_to_the_end += not self.server.over.wait(300)
                self.close_connection = True
            case "hang up":
                self.close_connection = True
            case _:
                time.sleep(0.01)
                self.send_response(200)
                self.send_header("Content-Length", str(len(NOTHING)))
                self.end_headers()
                self.wfile.write(NOTHING)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as listening:
        thread = Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        yield listening
        listening.over.set()
        listening.shutdown()
        thread.join()


def endpoint(url: str, timeout: float = 30.0) -> HttpEndpoint:
    return HttpEndpoint(url, lambda tile: b"%d" % tile.tile.index, "text/plain", {}, timeout)


def tiles(count: int) -> list[ReadTile]:
    pixels = np.zeros((1, 4, 4), np.uint8)
    return [TilePixels(Tile(index, Window(4 * index, 0, 4, 4)), pixels, None)
            for index in range(count)]  # fmt: skip


def test_an_endpoint_that_refuses_connections_is_given_up_after_few_calls() -> None:
    found = infer_tiles(tiles(300), endpoint("http://127.0.0.1:9/"), attempts=99, retry_seconds=2.0)
    assert coverage.count(found.ledger)["failed"] == 300
    reasons = coverage.reasons(found.ledger)
    assert "given up after" in reasons[0][0]
    assert "Connection refused" in reasons[0][0]
    assert sum(found.ledger["attempts"].to_pylist()) < 100


def test_no_tile_fails_if_an_endpoint_is_down_for_a_while(server: Server) -> None:
    def behave(_: int) -> str:
        return HANG_UP if began + 0.2 < time.monotonic() < began + 4 else ANSWER

    began, server.behave = time.monotonic(), behave
    found = infer_tiles(tiles(400), endpoint(server.url), attempts=4, retry_seconds=30.0)
    assert coverage.count(found.ledger)["inferred"] == 400
    retried = [line for line in found.ledger.to_pylist() if line["attempts"] > 1]
    assert retried
    assert all("connection closed" in line["failed_calls"][0] for line in retried)


def test_tiles_that_break_the_model_fail_alone(server: Server) -> None:
    server.behave = lambda tile: HANG_UP if tile in (3, 40) else ANSWER
    found = infer_tiles(tiles(60), endpoint(server.url), attempts=3)
    failed = [line["tile"] for line in found.ledger.to_pylist() if line["state"] == "failed"]
    assert failed == [3, 40]
    assert found.ledger["attempts"].to_pylist().count(3) == 2


@contextmanager
def started_later(port: int) -> Iterator[None]:
    """A model that listens on a port after two seconds."""
    started: list[Server] = []

    def start() -> None:
        started.append(Server(port))
        started[0].serve_forever(0.02)

    timer = Timer(2.0, start)
    timer.start()
    yield
    started[0].shutdown()
    started[0].server_close()
    timer.join()


@pytest.mark.parametrize("count", [1, 4])
def test_few_tiles_wait_for_a_model_that_starts_as_long_as_many(count: int) -> None:
    with Server() as reserved:
        url, port = reserved.url, reserved.server_port
    with started_later(port):
        found = infer_tiles(tiles(count), endpoint(url), attempts=1, retry_seconds=60.0)
    assert coverage.count(found.ledger)["inferred"] == count
    assert min(found.ledger["attempts"].to_pylist()) > 1


def test_few_tiles_wait_for_a_model_that_restarts_midway() -> None:
    server, answered, down = Server(), Event(), Event()

    def behave(tile: int) -> str:
        if tile == 0:
            answered.set()
            return ANSWER
        down.wait(60)
        return HANG_UP

    def stop() -> None:
        answered.wait(60)
        server.shutdown()
        server.server_close()
        down.set()

    server.behave = behave
    for work in (server.serve_forever, stop):
        Thread(target=work).start()
    url = server.url
    with started_later(server.server_port):
        found = infer_tiles(tiles(4), endpoint(url), attempts=3, retry_seconds=60.0)
    assert coverage.count(found.ledger)["inferred"] == 4


def test_few_tiles_fail_once_the_patience_with_a_dead_model_is_over() -> None:
    found = infer_tiles(tiles(4), endpoint("http://127.0.0.1:9/"), attempts=1, retry_seconds=2.0)
    assert coverage.count(found.ledger)["failed"] == 4
    assert "Connection refused" in coverage.reasons(found.ledger)[0][0]
    assert 4 < sum(found.ledger["attempts"].to_pylist()) < 100


def test_an_endpoint_that_hangs_is_given_up(server: Server) -> None:
    server.behave = lambda _: HANG
    found = infer_tiles(
        tiles(200), endpoint(server.url, timeout=0.5), attempts=99, retry_seconds=1.0
    )
    assert coverage.count(found.ledger)["failed"] == 200
    assert "no complete answer within 0.5 s" in coverage.reasons(found.ledger)[0][0]
    assert server.calls < 100


def test_closing_ends_every_call_at_once(server: Server) -> None:
    server.behave = lambda _: HANG
    calls = InferenceClient(
        endpoint(server.url, timeout=600),
        Limiter(8),
        tiles=9,
        max_calls=9,
        attempts=9,
        retry_seconds=900,
    )
    Timer(1.0, calls.close).start()
    batch = Batch()
    with closing(batch):
        batch.fill(islice(iter(tiles(9)), 9), calls)
    with closing(calls), pytest.raises(CancelledError):
        infer(batch)
    assert server.hung_to_the_end == 0
    made = server.calls
    time.sleep(0.5)
    assert server.calls == made


def test_no_call_is_made_once_the_endpoint_is_given_up(server: Server) -> None:
    """Not even for tiles that already wait for a permit."""
    server.behave = lambda _: HANG
    found = infer_tiles(
        tiles(300), endpoint(server.url, timeout=1.0), attempts=99, retry_seconds=2.0, max_calls=128
    )
    assert coverage.count(found.ledger)["failed"] == 300
    assert server.calls < 40
    assert "given up after" in coverage.reasons(found.ledger)[0][0]
