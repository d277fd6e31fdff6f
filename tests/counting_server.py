"""The server of `tests/counting_model.py`: `python -m tests.counting_server`.

Its models find the bright objects of a tile, or tell how bright its pixels are, from the pixels
alone.
"""

from __future__ import annotations

import hashlib
import json
import random
import select
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from threading import Condition
from typing import Any

import numpy as np
from scipy import ndimage

from tasks.inference.tile_decoding import decode_tile

_BRIGHT = 200  # least value of an object's pixels
_HUGE = 1 << 30  # bytes of the answer `huge`
_POLL = 0.02  # seconds between two looks at whether a held call's client is still there


@dataclass
class _Model:
    """The state of one model; its condition guards it."""

    changed: Condition = field(default_factory=Condition)
    calls: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    in_flight: int = 0
    abandoned: int = 0
    permits: int | None = None
    fault: dict[str, Any] | None = None
    tiles: set[str] = field(default_factory=set)
    pixels: bool = False
    slowest: float = 0.0

    def control(self, change: dict[str, Any]) -> dict[str, Any]:
        """Change what further calls are answered; returns the figures."""
        with self.changed:
            if "permits" in change:
                self.permits = change["permits"]
            if "fault" in change:
                self.fault, self.tiles = change["fault"], set()
            self.slowest = change.get("slowest", self.slowest)
            self.pixels = change.get("pixels", self.pixels)
            self.changed.notify_all()
            return {
                "calls": dict(self.calls),
                "answered": self.answered,
                "in_flight": self.in_flight,
                "abandoned": self.abandoned,
            }

    def begin(self, tile: str) -> dict[str, Any] | None:
        """Count a call; returns the fault that is its answer, or None."""
        with self.changed:
            self.calls[tile] += 1
            self.in_flight += 1
            if (fault := self.fault) is None or fault["times"] == 0:
                return None
            if fault["tiles"] is not None:
                if tile not in self.tiles and len(self.tiles) == fault["tiles"]:
                    return None
                self.tiles.add(tile)
            if fault["times"] is not None:
                fault["times"] -= 1
            return fault

    def wait(self, connection: socket.socket) -> bool:
        """Wait for a permit to answer; False if the client hung up before."""
        with self.changed:
            while self.permits == 0 and not _hung_up(connection):
                self.changed.wait(_POLL)
            if _hung_up(connection):
                return False
            if self.permits is not None:
                self.permits -= 1
            return True

    def end(self, *, answered: bool) -> None:
        """Count the end of a call."""
        with self.changed:
            self.in_flight -= 1
            self.answered += answered
            self.abandoned += not answered


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._models: dict[str, _Model] = {}
        self._guard = Condition()

    def model(self, name: str) -> _Model:
        """The model of a name."""
        with self._guard:
            return self._models.setdefault(name, _Model())

    def handle_error(self, *_: object) -> None:
        """Ignore clients that were killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        _, name, action = self.path.split("?")[0].split("/")
        model = self.server.model(name)
        if action == "control":
            return self._send(200, json.dumps(model.control(json.loads(body))).encode())
        fault = model.begin(hashlib.sha256(body).hexdigest()[:16])
        answered = False
        try:
            if model.wait(self.connection):
                time.sleep(random.uniform(0, model.slowest))
                self._answer(fault, body, pixels=model.pixels)
                answered = True
        finally:
            model.end(answered=answered)

    def _answer(self, fault: dict[str, Any] | None, tile: bytes, *, pixels: bool) -> None:
        match fault and fault["answer"]:
            case "status":
                assert fault is not None
                self._send(fault["status"], b"it is a test", fault.get("headers"))
            case "hang up":
                self.close_connection = True
            case "late":
                assert fault is not None
                time.sleep(fault["seconds"])
                self._send(200, _collection(_objects(tile)))
            case "huge":
                self._send_huge()
            case str(name):
                self._send(200, body_of(name, tile))
            case _ if pixels:
                self._send(200, probabilities_of(tile), media_type="application/x-npy")
            case _:
                self._send(200, _collection(_objects(tile)))

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        media_type: str = "application/geo+json",
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_huge(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(_HUGE))
        self.end_headers()
        for _ in range(_HUGE >> 20):
            self.wfile.write(b" " * (1 << 20))

    def do_GET(self) -> None:
        self._send(200, b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""


def _hung_up(connection: socket.socket) -> bool:
    """Whether the client of a connection has closed it."""
    readable, _, _ = select.select([connection], [], [], 0)
    try:
        return bool(readable) and not connection.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


def _objects(tile: bytes) -> list[tuple[float, float, float, float]]:
    """The boxes of the bright objects of a tile."""
    found, _ = ndimage.label(decode_tile(tile)[0] >= _BRIGHT)
    return [
        (float(x.start), float(y.start), float(x.stop), float(y.stop))
        for y, x in ndimage.find_objects(found)
    ]


def _collection(boxes: list[tuple[float, float, float, float]], score: Any = 0.9) -> bytes:
    features = [
        {
            "type": "Feature",
            "geometry": None,
            "properties": {
                "imageBBox": box,
                "featureClasses": [{"iri": "ship", "score": score}],
            },
        }
        for box in boxes
    ]
    collection = {"type": "FeatureCollection", "features": features}
    return json.dumps(collection, separators=(",", ":")).encode()


def probabilities_of(tile: bytes) -> bytes:
    """How probably each pixel is dark or bright, as an array in the format NPY.

    Tiles do not agree about the pixels that they have in common.
    """
    grey = decode_tile(tile)[0].astype(np.float32)
    slope = np.linspace(-0.2, 0.2, grey.shape[1], dtype=np.float32) * (grey.mean() % 7) / 7
    bright = np.clip(grey / 255 + slope, 0, 1)
    sink = BytesIO()
    np.save(sink, np.stack([1 - bright, bright]))
    return sink.getvalue()


def body_of(name: str, tile: bytes) -> bytes:
    """An answer with status 200 that is not what is in the tile."""
    boxes, size, score = _objects(tile), float(decode_tile(tile).shape[1]), 0.9
    match name:
        case "malformed":
            return _collection(boxes)[:-9] + b"}"
        case "wrong schema":
            return b'{"predictions": [[0, 0, 9, 9]]}'
        case "nan":
            boxes.append((1.0, float("nan"), 9.0, 9.0))
        case "outside":
            boxes.append((size + 90, 5.0, size + 99, 9.0))
        case "flood":
            corners = np.random.default_rng(0).uniform(0, size - 5, (100_000, 2))
            boxes = [(x, y, x + 4, y + 4) for x, y in corners.round().tolist()]
        case "nothing":
            boxes = []
        case "whole tile":
            boxes = [(0.0, 0.0, size, size)]
            score = 0.5 + float((decode_tile(tile)[0] >= _BRIGHT).mean())
        case _:
            raise ValueError(f"there is no answer {name!r}")
    return _collection(boxes, score)


def main() -> None:
    """Serve until killed."""
    with _Server() as server:
        print(server.server_port, flush=True)
        server.serve_forever(0.1)


if __name__ == "__main__":
    main()
