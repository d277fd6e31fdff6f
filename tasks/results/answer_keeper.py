"""Stores what the model answers while it comes in."""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self, TypeVar

from tasks.errors import PublishError
from tasks.grid.tiles import Region
from tasks.results.answer_parts import decode, encode, encode_maps, maps_of, names_of_attempt
from tasks.results.tile_results import Outcome, TileResults, gather, results_of
from tasks.storage import objects
from tasks.telemetry.catalogue import Operation
from tasks.telemetry.operations import operation

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SHORTEST, _LONGEST = 0.25, 20.0  # seconds between two writes, if the store takes them
_SHARE = 0.05  # of a processor that storing may take
_LONGEST_OUTAGE = 600.0  # seconds for which no tile is asked for, as nothing can be stored
_PART_BYTES, _PART_TILES = 1 << 20, 4096  # a part of so many is not written again
_MAP_BYTES, _MAP_SECONDS = 4 << 20, 5.0  # of maps in a part; how long they wait for as many
_MOST_MAPS = 32 << 20  # bytes of maps that may wait; no tile is asked for while there are more


class AnswerKeeper:
    """Stores the answers to an attempt at a region while they come in; a context manager.

    They are stored about four times a second, so that an attempt that is killed loses few more
    answers than those in flight. While a part is small, it is written anew with what has come
    since.

    Attributes:
        bytes: Size of the detections that were added.
    """

    def __init__(
        self,
        folder: str,
        region: Region,
        least_score: float,
        on_stored: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Store nothing yet.

        Args:
            folder: Folder or s3:// prefix of the kept answers to a question.
            region: The region whose tiles are asked for.
            least_score: The score from which on the model's detections are complete.
            on_stored: Is given the bytes of what was added to the store.
        """
        self.bytes = 0
        self._on_stored, self._part_bytes = on_stored, 0  # of the part that is written anew
        self._folder = folder
        self._names = names_of_attempt(region, least_score)
        self._name = next(self._names)  # of the part that is still written anew
        self._lock = Lock()
        self._waiting: list[Outcome] = []
        self._part: list[TileResults] = []  # of the part that is still written anew
        self._maps: dict[int, bytes] = {}  # of that part; it is not written again
        self._maps_waiting, self._oldest_map = 0, 0.0  # bytes that are not stored, and since when
        self._stored = True  # whether all of it is stored
        self._whole: list[str] = []  # names of the parts before
        self._ended, self._storing = Event(), Event()
        self._error: PublishError | None = None  # of the last try to store
        self._thread = Thread(target=self._store_as_they_come, name="answers", daemon=True)

    def __enter__(self) -> Self:
        """Begin to store, with a part that has no tile yet.

        Raises:
            PublishError: It cannot be stored.
        """
        self._write()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Store what is not stored yet; of an attempt without an outcome, nothing is left.

        Raises:
            PublishError: It cannot be stored; after another error, that is only logged.
        """
        self._ended.set()
        self._thread.join()
        try:
            self._store()
            if not self._whole and not any(len(each.ledger) for each in self._part):
                objects.remove_object(objects.join(self._folder, self._name))
                self._on_stored(-self._part_bytes)
        except PublishError:
            if error is None:
                raise
            logger.warning("The last answers are lost", exc_info=True)

    def add(self, outcomes: Sequence[Outcome]) -> None:
        """Take the outcomes of tiles, in any thread."""
        with self._lock:
            self._waiting += outcomes
            for outcome in outcomes:
                if outcome.detections is not None:
                    self.bytes += outcome.detections.nbytes
                if outcome.map is not None:
                    self._oldest_map = self._oldest_map or time.monotonic()
                    self._maps_waiting += len(outcome.map)
            if self._maps_waiting > _MOST_MAPS:
                self._storing.clear()

    def before_asking(self, tiles: Iterable[T]) -> Iterator[T]:
        """Pass tiles on; while answers cannot be stored, or not as fast as they come, wait.

        Those that are not stored might be paid for again, and fill the memory.

        Raises:
            PublishError: They could not be stored for ten minutes.
        """
        for tile in tiles:
            if not self._storing.wait(_LONGEST_OUTAGE) and self._error:
                raise self._error
            yield tile

    def results(self) -> TileResults:
        """All that was added, once the context is left.

        Raises:
            PublishError: A part cannot be read.
        """
        whole = (decode(objects.get(objects.join(self._folder, name))) for name in self._whole)
        return gather([*whole, *self._part])

    def _store_as_they_come(self) -> None:
        pause = _SHORTEST
        while not self._ended.wait(pause):
            began = time.thread_time()
            try:
                self._store()
            except PublishError as error:
                logger.warning("No tile is asked for until answers can be stored: %s", error)
                self._error = error
                self._storing.clear()
            pause = min(max(_SHORTEST, (time.thread_time() - began) / _SHARE), _LONGEST)

    def _store(self) -> None:
        if not self._stored:
            self._write()
        while due := self._due():
            self._part.append(results_of(due))
            self._maps = {each.record.tile.index: each.map for each in due if each.map is not None}
            self._stored = False
            self._write()

    def _due(self) -> list[Outcome]:
        """Take what is to be stored next: all that waits, or maps as many as a part has."""
        with self._lock:
            now = time.monotonic()
            young = now - self._oldest_map < _MAP_SECONDS and not self._ended.is_set()
            if 0 < self._maps_waiting < _MAP_BYTES and young:
                return []
            sizes = list(accumulate(len(each.map or b"") for each in self._waiting))
            most = bisect_left(sizes, _MAP_BYTES) + 1
            due, self._waiting = self._waiting[:most], self._waiting[most:]
            self._oldest_map = now if self._waiting else 0.0
            return due

    def _write(self) -> None:
        """Write the part, with what has come since it was written last."""
        results = gather(self._part)
        self._part = [results]
        body, name = encode(results), objects.join(self._folder, self._name)
        maps = encode_maps(self._maps) if self._maps else b""
        with operation(Operation.STORAGE):
            if maps:
                objects.put(maps_of(name), maps)
            objects.put(name, body)
        self._on_stored(len(maps) + len(body) - self._part_bytes)
        self._part_bytes = len(body)
        self._stored, self._error = True, None
        with self._lock:
            self._maps_waiting = sum(len(each.map or b"") for each in self._waiting)
            if self._maps_waiting <= _MOST_MAPS:
                self._storing.set()
        if self._maps or len(body) > _PART_BYTES or len(results.ledger) > _PART_TILES:
            self._maps = {}
            self._whole.append(self._name)
            self._name, self._part, self._part_bytes = next(self._names), [], 0
