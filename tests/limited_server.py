"""A simulated endpoint of a given capacity, in a process of its own, that measures its use.

It answers after a random time. Calls beyond its capacity are throttled, or wait in a queue. It
counts the slot-seconds in which it is busy.

    POST /            a call
    GET  /figures     the figures so far
    GET  /capacity/8  sets the capacity to 8
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_NOTHING = b'{"type":"FeatureCollection","features":[]}'
FASTEST, SLOWEST = 0.030, 0.080  # seconds that a call takes


@dataclass(frozen=True)
class Figures:
    """The figures of a server.

    Attributes:
        busy: Slot-seconds at work.
        available: Slot-seconds of its capacity.
        answered: Answered calls.
        throttled: Throttled calls.
        waited: Seconds that calls waited in the queue.
    """

    busy: float
    available: float
    answered: int
    throttled: int
    waited: float

    def since(self, before: Figures) -> Figures:
        """The difference from earlier figures."""
        return Figures(
            self.busy - before.busy,
            self.available - before.available,
            self.answered - before.answered,
            self.throttled - before.throttled,
            self.waited - before.waited,
        )

    @property
    def used(self) -> float:
        """Share of the capacity that was busy."""
        return self.busy / self.available

    @property
    def refused(self) -> float:
        """Share of the calls that were throttled."""
        return self.throttled / max(1, self.answered + self.throttled)

    @property
    def slowness(self) -> float:
        """Mean latency over that of an idle server."""
        return 1 + self.waited / max(1, self.answered) / ((FASTEST + SLOWEST) / 2)


@dataclass(frozen=True)
class LimitedServer:
    """A running server.

    Attributes:
        url: Where calls are posted.
    """

    url: str

    def figures(self) -> Figures:
        """The figures so far."""
        return Figures(**json.loads(self._get("figures")))

    def set_capacity(self, capacity: int) -> None:
        """Change the capacity; calls in progress continue."""
        self._get(f"capacity/{capacity}")

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=10) as reply:
            body: bytes = reply.read()
            return body


@contextmanager
def limited_server(capacity: int, *, queues: bool = False) -> Iterator[LimitedServer]:
    """A running server; with `queues` it never throttles."""
    command = [sys.executable, __file__, str(capacity), "queues" if queues else "throttles"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield LimitedServer(f"http://127.0.0.1:{process.stdout.readline().strip()}/")
        finally:
            process.terminate()


class _Endpoint:
    def __init__(self, capacity: int, *, queues: bool) -> None:
        self._capacity, self._queues = capacity, queues
        self._at_work, self._counted = 0, time.monotonic()
        self._queue: deque[asyncio.Future[None]] = deque()
        self._busy = self._available = self._waited = 0.0
        self._answered = self._throttled = 0

    async def call(self) -> int:
        """The status of a call, when it is done."""
        if self._at_work < self._capacity:
            self._count(+1)
        elif self._queues:
            arrived = time.monotonic()
            place = asyncio.get_running_loop().create_future()
            self._queue.append(place)
            await place
            self._waited += time.monotonic() - arrived
        else:
            self._throttled += 1
            return 429
        await asyncio.sleep(random.uniform(FASTEST, SLOWEST))
        self._answered += 1
        self._count(-1)
        self._let_in()
        return 200

    def control(self, path: str) -> bytes:
        """Carry out a GET."""
        self._count(0)
        if path.startswith("/capacity/"):
            self._capacity = int(path.rpartition("/")[2])
            self._let_in()
        counted = Figures(
            self._busy, self._available, self._answered, self._throttled, self._waited
        )
        return json.dumps(counted.__dict__).encode()

    def _let_in(self) -> None:
        """Start calls from the queue."""
        while self._queue and self._at_work < self._capacity:
            self._count(+1)
            self._queue.popleft().set_result(None)

    def _count(self, change: int) -> None:
        now = time.monotonic()
        self._busy += min(self._at_work, self._capacity) * (now - self._counted)
        self._available += self._capacity * (now - self._counted)
        self._counted = now
        self._at_work += change


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as far as these tests need it."""

    def __init__(self, endpoint: _Endpoint) -> None:
        self._endpoint, self._received = endpoint, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        lengths = [line[15:] for line in lines if line.startswith(b"content-length:")]
        length = int(lengths[0]) if lengths else 0
        if not found or len(rest) < length:
            return
        self._received = rest[length:]
        method, path, *_ = head.decode().split(" ")
        if method == "GET":
            self._answer(200, self._endpoint.control(path))
        else:
            self._task = asyncio.ensure_future(self._call())

    async def _call(self) -> None:
        self._answer(await self._endpoint.call(), _NOTHING)

    def _answer(self, status: int, body: bytes) -> None:
        self._transport.write(
            f"HTTP/1.1 {status} .\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )


async def _serve(endpoint: _Endpoint) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(endpoint), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(_Endpoint(int(sys.argv[1]), queues=sys.argv[2] == "queues")))
