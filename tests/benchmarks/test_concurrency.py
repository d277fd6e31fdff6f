"""How much of an endpoint of unknown capacity is used, and how many calls are throttled.

The endpoint counts both; it runs in a process of its own.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from threading import Barrier, Semaphore, Thread

import pytest

from tasks.errors import ThrottledError
from tasks.inference.limiter import Limiter, LimiterClosedError
from tasks.inference.transport import Transport
from tests.limited_server import Figures, LimitedServer, limited_server

SETTLING = 3.0  # seconds after a start or a change that are not counted
MEASURED = 12.0
MOST = 256  # calls that may be in flight: more than any endpoint here takes
BODY = b"tile"
TOO_MANY = 429
PERMITS = 12_800


class _Fixed:
    """A fixed number of calls at a time, in place of a limiter."""

    def __init__(self, calls: int) -> None:
        self._turns = Semaphore(calls)
        self._closed = False

    def permit(self) -> Semaphore:
        if self._closed:
            raise LimiterClosedError
        return self._turns

    def close(self) -> None:
        self._closed = True


def post(transport: Transport, url: str) -> None:
    if transport.post(url, {}, BODY).status == TOO_MANY:
        raise ThrottledError(url)


def call_on(limiter: Limiter | _Fixed, transport: Transport, url: str) -> None:
    """Call until the limiter closes; a throttled call waits without a permit, as a tile does."""
    refused = 0
    while True:
        try:
            with limiter.permit():
                post(transport, url)
            refused = 0
        except ThrottledError:
            time.sleep(random.uniform(0, min(20, 0.5 * 2**refused)))
            refused += 1
        except LimiterClosedError:
            return


@contextmanager
def calling(server: LimitedServer, limiter: Limiter | _Fixed, threads: int) -> Iterator[None]:
    """Call from many threads."""
    transport = Transport(timeout=10)
    calls = [Thread(target=call_on, args=(limiter, transport, server.url)) for _ in range(threads)]
    for thread in calls:
        thread.start()
    try:
        yield
    finally:
        limiter.close()
        for thread in calls:
            thread.join()
        transport.close()


def settled(server: LimitedServer) -> Figures:
    """The server's figures after the start is over."""
    time.sleep(SETTLING)
    before = server.figures()
    time.sleep(MEASURED)
    return server.figures().since(before)


def report(what: str, capacity: int, figures: Figures) -> None:
    print(
        json.dumps(
            {
                "benchmark": f"concurrency: {what}",
                "capacity": capacity,
                "used": round(figures.used, 3),
                "throttled": round(figures.refused, 4),
                "latency": round(figures.slowness, 2),
            }
        )
    )


@pytest.mark.parametrize("capacity", [4, 10, 32])
def test_a_hard_limit_is_found_and_found_again_when_it_halves_and_doubles(capacity: int) -> None:
    with limited_server(capacity) as server, calling(server, Limiter(MOST), 3 * capacity + 8):
        for what, takes in [
            ("found", capacity),
            ("halved", capacity // 2),
            ("doubled", capacity),
            ("doubled again", 2 * capacity),
        ]:
            server.set_capacity(takes)
            figures = settled(server)
            report(what, takes, figures)
            assert figures.used > 0.9
            assert figures.refused < 0.02


@pytest.mark.parametrize("capacity", [4, 10, 32])
def test_an_endpoint_that_queues_is_busy_with_a_short_queue(capacity: int) -> None:
    with (
        limited_server(capacity, queues=True) as server,
        calling(server, Limiter(MOST), 8 * capacity),
    ):
        figures = settled(server)
        report("queueing", capacity, figures)
        assert figures.used > 0.9
        assert figures.slowness < 4


def test_two_regions_share_an_endpoint() -> None:
    with limited_server(10) as server, ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(calling(server, Limiter(MOST), 30))
        figures = settled(server)
        report("two limiters", 10, figures)
        assert figures.used > 0.9
        assert figures.refused < 0.02


def test_a_fixed_limit_is_worse() -> None:
    shares = {}
    guesses: dict[str, Callable[[], Limiter | _Fixed]] = {
        "fixed, too low": lambda: _Fixed(5),
        "fixed, too high": lambda: _Fixed(20),
        "found": lambda: Limiter(MOST),
    }
    for what, limiter in guesses.items():
        with limited_server(10) as server, calling(server, limiter(), 40):
            shares[what] = settled(server)
            report(what, 10, shares[what])
    assert shares["fixed, too low"].used < 0.6 < shares["found"].used
    assert shares["fixed, too high"].refused > 2 * shares["found"].refused


def cpu_seconds(permit: Callable[[], AbstractContextManager[object]], threads: int) -> float:
    """CPU seconds of all threads for one permit."""
    together = Barrier(threads)

    def take() -> None:
        together.wait()
        for _ in range(PERMITS // threads):
            with permit():
                time.sleep(0.0005)  # other threads come meanwhile, and must wait

    takers = [Thread(target=take) for _ in range(threads)]
    start = time.process_time()
    for thread in takers:
        thread.start()
    for thread in takers:
        thread.join()
    return (time.process_time() - start) / PERMITS


@pytest.mark.parametrize("threads", [1, 128])
def test_a_permit_costs_little(threads: int) -> None:
    limiter = Limiter(MOST)
    cost = {
        "without": cpu_seconds(nullcontext, threads),
        "with": cpu_seconds(limiter.permit, threads),
    }
    microseconds = {what: round(1e6 * seconds, 1) for what, seconds in cost.items()}
    print(
        json.dumps(
            {"benchmark": "concurrency: CPU µs of a permit", "threads": threads} | microseconds
        )
    )
    assert limiter.in_flight == 0
