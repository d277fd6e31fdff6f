"""What the model answered, kept for whoever asks the same question next.

A part is one object with the detections of some tiles, as the model gave them, and their lines of
the ledger. It is stored whole or not at all, under a name of the attempt that wrote it, so that
two attempts at a region never share one.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self, TypeVar
from uuid import uuid4

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.errors import PublishError
from tasks.grid.tiles import Region, Tile
from tasks.results import coverage, detections
from tasks.results.tile_results import Outcome, TileResults, gather, results_of
from tasks.storage import objects

logger = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST = 20.0
"""Seconds between two writes at the most, if the store takes them."""

_SHORTEST = 0.25  # seconds between two writes
_SHARE = 0.05  # of a processor that storing may take
_LONGEST_OUTAGE = 600.0  # seconds for which no tile is asked for, as nothing can be stored
_PART_BYTES, _PART_TILES = 1 << 20, 4096  # a part of so many is not written again
_NAME = re.compile(r"(\d+)-(\d+)x(\d+)-(\d+)\.from-(.+)\.[0-9a-f]{32}\.\d+\.arrow")
_NOT_A_PART = (pa.ArrowException, KeyError, OSError, TypeError, ValueError)
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd")


class AnswerKeeper:
    """Stores the answers to an attempt at a region while they come in; a context manager.

    They are stored about four times a second, so that an attempt that is killed loses few more
    answers than those in flight. While a part is small, it is written anew with what has come
    since.

    Attributes:
        bytes: Size of the detections that were added.
    """

    def __init__(self, folder: str, region: Region, least_score: float) -> None:
        """Store nothing yet.

        Args:
            folder: Folder or s3:// prefix of the kept answers to a question.
            region: The region whose tiles are asked for.
            least_score: The score from which on the model's detections are complete.
        """
        self.bytes = 0
        self._folder = folder
        self._prefix = f"{region.block}.from-{least_score}.{uuid4().hex}"
        self._lock = Lock()
        self._waiting: list[Outcome] = []
        self._part: list[TileResults] = []  # of the part that is still written anew
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
        self._storing.set()
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

    def before_asking(self, tiles: Iterable[T]) -> Iterator[T]:
        """Pass tiles on; while answers cannot be stored, wait, as they might be paid for again.

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
        whole = (_decode(objects.get(objects.join(self._folder, name))) for name in self._whole)
        return gather([*whole, *self._part])

    def _store_as_they_come(self) -> None:
        pause = _SHORTEST
        while not self._ended.wait(pause):
            began = time.thread_time()
            try:
                self._store()
                self._storing.set()
            except PublishError as error:
                logger.warning("No tile is asked for until answers can be stored: %s", error)
                self._error = error
                self._storing.clear()
            pause = min(max(_SHORTEST, (time.thread_time() - began) / _SHARE), LONGEST)

    def _store(self) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        if waiting:
            self._part.append(results_of(waiting))
            self._stored = False
        if self._stored:
            return
        self._write()

    @property
    def _name(self) -> str:
        """The name of the part that is still written anew."""
        return f"{self._prefix}.{len(self._whole):05}.arrow"

    def _write(self) -> None:
        """Write the part, with what has come since it was written last."""
        results = gather(self._part)
        self._part = [results]
        body = _encode(results)
        objects.put(objects.join(self._folder, self._name), body)
        self._stored = True
        if len(body) > _PART_BYTES or len(results.ledger) > _PART_TILES:
            self._whole.append(self._name)
            self._part = []


@dataclass(frozen=True)
class KeptAnswers:
    """What is kept of a region's tiles.

    Attributes:
        answered: The results of the tiles that need not be asked for again: inferred or blank.
        failed: The ledger of tiles that were asked for, and never answered.
    """

    answered: TileResults
    failed: pa.Table


def kept_answers(
    folder: str, region: Region, tiles: Sequence[Tile], least_score: float
) -> KeptAnswers:
    """The answers that are kept for tiles, in whichever division of the image they were asked for.

    If two attempts were answered for the same tile, one of them is taken as a whole.

    Args:
        folder: Folder or s3:// prefix of the kept answers to a question.
        region: The region that the tiles are of.
        tiles: The tiles.
        least_score: The score from which on the model's detections have to be complete.

    Raises:
        PublishError: The store does not answer.
    """
    wanted = np.array([tile.index for tile in tiles], np.int64)
    parts = [_of_tiles(part, wanted) for part in _parts(folder, region, least_score)]
    ledger = pa.concat_tables([coverage.SCHEMA.empty_table(), *(part.ledger for part in parts)])
    numbers = np.repeat(np.arange(len(parts)), [len(part.ledger) for part in parts])
    indices, failed = ledger["tile"].to_numpy(), coverage.failed(ledger)
    # the first row of each tile in this order: one that was answered, of the earliest part
    order = np.lexsort([numbers, failed, indices])
    chosen = order[np.unique(indices[order], return_index=True)[1]]
    answered = chosen[~failed[chosen]]
    found = [
        _in(part.detections, indices[answered[numbers[answered] == number]])
        for number, part in enumerate(parts)
    ]
    return KeptAnswers(
        TileResults(detections.concatenate(found), ledger.take(answered)),
        ledger.take(chosen[failed[chosen]]),
    )


def least_score_kept(folder: str) -> float:
    """The score from which on all kept answers are complete; 0 if none are kept.

    Raises:
        PublishError: The store does not answer.
    """
    return max((name.least_score for name in _names(folder)), default=0.0)


@dataclass(frozen=True)
class _PartName:
    """The name of a part, with what it says.

    Attributes:
        text: The name.
        block: Tile rows and columns of the region: first row, one after the last, and so on.
        least_score: The score from which on the model's detections are complete.
    """

    text: str
    block: tuple[int, ...]
    least_score: float


def _names(folder: str) -> Iterator[_PartName]:
    for text in objects.list_names(folder):
        if found := _NAME.fullmatch(text):
            *block, least_score = found.groups()
            yield _PartName(text, tuple(map(int, block)), float(least_score))


def _parts(folder: str, region: Region, least_score: float) -> Iterator[TileResults]:
    """The results in each part that may have some of a region."""
    for name in _names(folder):
        if name.least_score > least_score or not _meets(region, *name.block):
            continue
        body = objects.get(objects.join(folder, name.text))
        try:
            part = _decode(body)
        except _NOT_A_PART as error:
            logger.warning("The tiles of %s/%s are asked for again: %r", folder, name.text, error)
            continue
        yield part if name.least_score == least_score else _above(part, least_score)


def _above(part: TileResults, least_score: float) -> TileResults:
    """Results as if the model had been asked for detections from a higher score on."""
    table = part.detections.filter(pa.array(part.detections["score"].to_numpy() >= least_score))
    return TileResults(table, coverage.with_detections(part.ledger, table["tile"].to_numpy()))


def _decode(body: bytes) -> TileResults:
    source = pa.BufferReader(body)
    ledger = pa.ipc.open_stream(source).read_all()
    return TileResults(pa.ipc.open_stream(source).read_all(), ledger)


def _encode(results: TileResults) -> bytes:
    sink = pa.BufferOutputStream()
    for table in (results.ledger, results.detections):
        with pa.ipc.new_stream(sink, table.schema, options=_COMPRESSED) as writer:
            writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


def _of_tiles(results: TileResults, tiles: NDArray[np.int64]) -> TileResults:
    return TileResults(_in(results.detections, tiles), _in(results.ledger, tiles))


def _in(table: pa.Table, tiles: NDArray[np.int64]) -> pa.Table:
    inside = np.isin(table["tile"].to_numpy(), tiles)
    return table if inside.all() else table.filter(pa.array(inside))


def _meets(region: Region, *block: int) -> bool:
    """Whether a region shares tiles with a block of tile rows and columns."""
    row_start, row_stop, column_start, column_stop = block
    in_rows = region.row_start < row_stop and row_start < region.row_stop
    return in_rows and region.column_start < column_stop and column_start < region.column_stop
