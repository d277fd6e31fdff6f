"""An HTTP proxy before a server such as Prefect's or the emulated AWS, which fails on demand."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Call:
    """A request to the server behind the proxy.

    Attributes:
        method: HTTP method.
        path: Path with query.
        action: Of a call of AWS such as SQS, `Service.Action`; otherwise empty.
        body: The body.
    """

    method: str
    path: str
    action: str
    body: bytes


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Forward = Callable[[], Answer]
"""Has the server behind the proxy answer the call."""

Fault = Callable[[Call, Forward], Answer | None]
"""The answer to a call, with or without the server's; None closes the connection without one."""


class FaultyProxy(ThreadingHTTPServer):
    """A proxy on a port of its own.

    Attributes:
        fault: Answers every call.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, upstream: str) -> None:
        """Forward calls to the server at the URL `upstream`."""
        super().__init__(("127.0.0.1", 0), _Handler)
        parts = urlsplit(upstream)
        assert parts.hostname is not None
        assert parts.port is not None
        self.upstream = parts.hostname, parts.port
        self.fault: Fault = forwarded

    @property
    def url(self) -> str:
        """URL of the server through the proxy."""
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def failing(
        self, matches: Callable[[Call], bool], fault: Fault, times: int | None = None
    ) -> Iterator[Faults]:
        """While the block lasts, have a fault answer the calls that match.

        Args:
            matches: Whether the fault answers a call.
            fault: The fault.
            times: Number of calls that it answers; None for all.
        """
        faults, before = Faults(), self.fault

        def first(call: Call, forward: Forward) -> Answer | None:
            if faults.calls == times or not matches(call):
                return before(call, forward)
            faults.calls += 1
            return fault(call, forward)

        self.fault = first
        try:
            yield faults
        finally:
            self.fault = before

    @contextmanager
    def holding(
        self, matches: Callable[[Call], bool], times: int | None = None
    ) -> Iterator[Faults]:
        """Hold the calls that match until the block ends or `Faults.go` is set; `times` of them."""
        go = Event()

        def fault(_: Call, forward: Forward) -> Answer | None:
            go.wait()
            return forward()

        with self.failing(matches, fault, times) as faults:
            faults.go = go
            try:
                yield faults
            finally:
                go.set()

    @contextmanager
    def recording(self, matches: Callable[[Call], bool]) -> Iterator[list[Answer]]:
        """A list that gets the server's answers to the calls that match."""
        answers: list[Answer] = []

        def fault(_: Call, forward: Forward) -> Answer:
            answers.append(forward())
            return answers[-1]

        with self.failing(matches, fault):
            yield answers

    @contextmanager
    def down(self) -> Iterator[None]:
        """Refuse connections, and answer none of the open ones, while the block lasts."""
        self.stop()
        with self.failing(lambda _: True, closed):
            yield
        self.socket = socket.create_server(self.server_address[:2])
        self.start()

    def start(self) -> None:
        """Serve in a thread."""
        self._thread = Thread(target=self.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections."""
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """Ignore clients that were killed."""


@dataclass
class Faults:
    """What a fault did.

    Attributes:
        calls: Number of calls that it answered, or holds.
        go: Lets the calls pass that are held, once it is set.
    """

    calls: int = 0
    go: Event = field(default_factory=Event)


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[FaultyProxy]:
    """A running proxy before a server."""
    proxy = FaultyProxy(upstream)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


def forwarded(_: Call, forward: Forward) -> Answer:
    """No fault."""
    return forward()


def closed(_call: Call, _forward: Forward) -> None:
    """The connection is closed before the server has the call."""


def lost(_: Call, forward: Forward) -> None:
    """The server carries out the call, and its answer is lost."""
    forward()


def status(number: int, code: str = "SlowDown") -> Fault:
    """An answer with a status, and an error code as S3 sends it."""
    body = f"<Error><Code>{code}</Code><Message>it is a test</Message></Error>".encode()
    return lambda *_: Answer(number, body, {"Content-Type": "application/xml"})


def slow(seconds: float) -> Fault:
    """An answer that comes late."""

    def fault(_: Call, forward: Forward) -> Answer:
        time.sleep(seconds)
        return forward()

    return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FaultyProxy

    def setup(self) -> None:
        super().setup()
        self._connection = HTTPConnection(*self.server.upstream, timeout=600)

    def finish(self) -> None:
        self._connection.close()
        with suppress(OSError):
            super().finish()

    def _pass(self) -> None:
        if self.headers.get("Upgrade"):
            return self._tunnel()
        body = self._body()
        call = Call(self.command, self.path, self.headers.get("X-Amz-Target", ""), body)
        answer = self.server.fault(call, lambda: self._forward(body))
        if answer is None:
            self.close_connection = True
            return None
        return self._send(answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = _pass  # noqa: N815 - names there

    def _forward(self, body: bytes) -> Answer:
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in {"transfer-encoding", "content-length", "expect", "connection"}
        }
        for fresh in (False, True):  # an idle connection may have been closed by the server
            try:
                self._connection.request(self.command, self.path, body or None, headers)
                response = self._connection.getresponse()
                break
            except (HTTPException, OSError):
                self._connection.close()
                if fresh:
                    raise
        kept = dict(response.getheaders())
        return Answer(response.status, response.read(), kept)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        dropped = {"transfer-encoding", "content-length", "connection"}
        for name, value in answer.headers.items():
            if name.lower() not in dropped:
                self.send_header(name, value)
        length = str(len(answer.body))
        if self.command == "HEAD":  # the length of what GET would return
            lengths = {name.lower(): value for name, value in answer.headers.items()}
            length = lengths.get("content-length", "0")
        if answer.status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _tunnel(self) -> None:
        """Pass a websocket's bytes in both directions."""
        self.close_connection = True
        head = f"{self.command} {self.path} HTTP/1.1\r\n{self.headers}"
        with socket.create_connection(self.server.upstream) as server:
            server.sendall(head.encode())
            back = Thread(target=_copy, args=(server, self.connection), daemon=True)
            back.start()
            _copy(self.connection, server)
            back.join()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(1 << 16):
            sink.sendall(chunk)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
