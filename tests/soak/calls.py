"""The calls of the models in a soak, written down on their way through a proxy, which can fail."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection
from dataclasses import dataclass
from threading import Lock

from tests import faulty_proxy
from tests.faulty_proxy import Answer, Forward


@dataclass(frozen=True)
class Call:
    """A call of a model.

    Attributes:
        tile: Digest of the tile.
        began: When it came, in seconds since 1970.
        ended: When it was answered.
        paid: Whether the model answered with what is in the tile.
    """

    tile: str
    began: float
    ended: float
    paid: bool


def digest(body: bytes) -> str:
    """The digest of an encoded tile."""
    return hashlib.sha256(body).hexdigest()


class Calls:
    """All calls of the models: the fault of a proxy before them.

    Args:
        seconds: Time that a model takes for a call.
        refused: Digests of the tiles that are refused each time.
    """

    def __init__(self, seconds: float, refused: Collection[str]) -> None:
        self._seconds, self._refused = seconds, frozenset(refused)
        self._lock = Lock()
        self._calls: list[Call] = []
        self._tiles: set[str] = set()
        self._status: int | None = None
        self._trouble_ends = 0.0

    def __call__(self, call: faulty_proxy.Call, forward: Forward) -> Answer:
        """The answer to a call, which is written down before it is sent."""
        began, tile = time.time(), digest(call.body)
        if began < self._trouble_ends and self._status is None:
            time.sleep(self._trouble_ends - began)
            answer = forward()
        elif began < self._trouble_ends and self._status is not None:
            answer = Answer(self._status, b"it is a test", {"Retry-After": "1"})
        elif tile in self._refused:
            answer = Answer(422, b"it is a test")
        else:
            time.sleep(self._seconds)
            answer = forward()
        with self._lock:
            paid = answer.status == 200
            self._calls.append(Call(tile, began, time.time(), paid))
            self._tiles |= {tile} if paid else set()
        return answer

    def trouble(self, status: int | None, seconds: float) -> None:
        """For some seconds, answer every call with a status; with None, hold all until then."""
        self._status, self._trouble_ends = status, time.time() + seconds

    @property
    def answered(self) -> int:
        """Number of tiles that have been answered."""
        return len(self._tiles)

    def all(self) -> list[Call]:
        """All calls so far, in the order in which they were answered."""
        with self._lock:
            return list(self._calls)
