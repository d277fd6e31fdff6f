"""A small S3 server for tests: it records the ranges that are read, and fails on demand."""

from __future__ import annotations

import re
import socket
import struct
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event

Fault = int | str
"""A status to answer with, or a fault of the connection or body: reset, short, zeros, hang."""


class RangeServer(ThreadingHTTPServer):
    """An S3 server that records every range that it served.

    Attributes:
        objects: Objects by path (`/bucket/key`).
        etag: ETag of every object.
        refusals: Status and S3 error code by path.
        fault: Called with the first and last byte of each range; returns a fault or None.
        ranges: First and last byte of every range that was served.
        hung: Set it to release the clients that the fault `hang` holds.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.etag = '"v1"'
        self.refusals: dict[str, tuple[int, str]] = {}
        self.fault: Callable[[int, int], Fault | None] = lambda *_: None
        self.ranges: list[tuple[int, int]] = []
        self.hung = Event()

    @property
    def fetched(self) -> int:
        """Number of bytes that were served."""
        return sum(last - first + 1 for first, last in self.ranges)

    def handle_error(self, *_: object) -> None:
        """Ignore clients that close the connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RangeServer

    def do_GET(self) -> None:
        path = re.sub("%([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), self.path.split("?")[0])
        body = self.server.objects.get(path)
        if refusal := self.server.refusals.get(path):
            return self._answer(refusal[0], f"<Error><Code>{refusal[1]}</Code></Error>".encode())
        if body is None:
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        first, last = 0, len(body) - 1
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first = int(match[1])
            last = min(last, int(match[2] or last))
        if first > last:
            return self._answer(416, b"<Error><Code>InvalidRange</Code></Error>")
        return self._range(body[first : last + 1], first, last, len(body))

    def _range(self, part: bytes, first: int, last: int, size: int) -> None:
        total = {"Content-Range": f"bytes {first}-{last}/{size}"}
        match self.server.fault(first, last):
            case int(status):
                self._answer(status, b"<Error><Code>Broken</Code></Error>")
            case "reset":
                self._reset(part, total)
            case "short":
                self._answer(206, part[: len(part) // 2], total)
            case "hang":
                self.server.hung.wait()
                self.close_connection = True
            case "zeros":
                self._answer(206, bytes(len(part)), total)
            case _:
                self.server.ranges.append((first, last))
                self._answer(206, part, total)

    do_HEAD = do_GET  # noqa: N815 - name required by http.server

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self._head(status, len(body), headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self, body: bytes, headers: dict[str, str]) -> None:
        """Send half of the body, then reset the connection."""
        self._head(206, len(body), headers)
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _head(self, status: int, length: int, headers: dict[str, str] | None) -> None:
        self.send_response(status)
        for name, value in {"ETag": self.server.etag, **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Log nothing."""


def serve_with_fault(file: Path, path: str, fault: Fault, first: int, last: int) -> None:
    """Serve one file; ranges that intersect bytes `first` to `last` get the fault.

    Run in a separate process: GDAL may hold the GIL while it reads, so that a server in the same
    process could not answer.
    """
    with RangeServer() as server:
        server.objects[path] = file.read_bytes()
        server.fault = lambda start, end: fault if start <= last and end >= first else None
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    name, path, kind, low, high = sys.argv[1:]
    serve_with_fault(Path(name), path, int(kind) if kind.isdigit() else kind, int(low), int(high))
