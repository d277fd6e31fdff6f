"""Calls of one endpoint about a region's tiles: many at a time, each until answered or given up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import Any

import pyarrow as pa

from tasks.errors import (
    AnswerError,
    EndpointError,
    EndpointTimeoutError,
    PermanentError,
    SwathError,
)
from tasks.grid.tiles import Tile
from tasks.imagery import AbsentTile, ReadTile, UnreadTile
from tasks.inference.answer import read_answer
from tasks.inference.endpoint import Endpoint
from tasks.inference.limiter import Limiter, LimiterClosedError
from tasks.inference.retry import CircuitBreaker, RetryBudget, RetryState
from tasks.results.coverage import TileRecord, TileState

_LONGEST_REASON = 500  # characters of an unforeseen error


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a tile.

    Attributes:
        record: Its line of the ledger.
        detections: Table of `detections.SCHEMA`; None where there are none.
    """

    record: TileRecord
    detections: pa.Table | None = None


@dataclass(frozen=True, slots=True)
class _Ready:
    """A tile, and what will be sent for it."""

    tile: Tile
    prepared: Any


class _NotNow(Exception):  # noqa: N818 - nothing is wrong with the tile
    """The turn came too late: look again at what became of the endpoint."""


class InferenceClient:
    """A region's calls of its endpoint.

    Attributes:
        endpoint: The model.
        limiter: Says when a call may be made.
        tiles_per_call: Tiles that the model likes to be asked about together.
        first_answer: When it first answered, in seconds since 1970; None before.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        limiter: Limiter,
        *,
        tiles: int,
        max_calls: int,
        attempts: int,
        retry_seconds: float,
    ) -> None:
        """Call nobody yet.

        Args:
            endpoint: The model.
            limiter: Says when a call may be made.
            tiles: Of the region.
            max_calls: Calls in memory at a time, 1 or more: in flight, waiting for a permit, or
                waiting to be retried.
            attempts: Calls that may fail for one tile.
            retry_seconds: Seconds without any answer after which the endpoint is given up.
        """
        self.endpoint, self.limiter = endpoint, limiter
        self.tiles_per_call = endpoint.tiles_per_call
        self.first_answer: float | None = None
        self._attempts, self._retry_seconds = attempts, retry_seconds
        self._budget, self._outage = RetryBudget(tiles), CircuitBreaker(retry_seconds)
        # a model in this process needs no turns: it has as many threads as it has use for
        self._turn = nullcontext if endpoint.local else limiter.permit
        self._closed = False
        self._room = BoundedSemaphore(max_calls)
        threads = min(max_calls, endpoint.capacity or max_calls) if endpoint.local else max_calls
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="calls")

    @property
    def stop_reason(self) -> str:
        """Why no further tile is worth reading; empty as long as the endpoint answers somebody."""
        return self._outage.reason

    def submit(self, tiles: list[ReadTile]) -> Future[list[Outcome]]:
        """Ask about tiles together as soon as it is their turn.

        Waits while too many are in memory.

        Args:
            tiles: As many as the endpoint likes at once. The list is emptied once their pixels are
                no longer needed: strips that they are of need not stay while calls are retried.
        """
        self._room.acquire()
        future = self._threads.submit(self._work, tiles)
        future.add_done_callback(lambda _: self._room.release())
        return future

    def close(self) -> None:
        """End, and the calls under way with it, at once."""
        self._closed = True
        self._outage.over.set()
        self.limiter.close()
        self.endpoint.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _work(self, tiles: list[ReadTile]) -> list[Outcome]:
        """The outcome of each tile; a tile that fails is recorded, never raised."""
        prepared = list(map(self._prepare, tiles))
        tiles.clear()
        ready = [each for each in prepared if isinstance(each, _Ready)]
        outcomes = [each for each in prepared if isinstance(each, Outcome)]
        if ready:
            outcomes += self._answers(
                ready, RetryState(self._attempts, self._retry_seconds, self._budget)
            )
        return sorted(outcomes, key=lambda outcome: outcome.record.tile.index)

    def _prepare(self, tile: ReadTile) -> _Ready | Outcome:
        """What will be sent for a tile; or its outcome, where there is nothing to ask."""
        if isinstance(tile, UnreadTile):
            return _failed(tile.tile, tile.reason)
        if isinstance(tile, AbsentTile) or tile.blank:
            return Outcome(TileRecord(tile.tile, TileState.BLANK))
        try:
            return _Ready(tile.tile, self.endpoint.prepare(tile))
        except Exception as error:
            return _failed(tile.tile, _words(error))

    def _answers(self, ready: list[_Ready], tries: RetryState) -> list[Outcome]:
        """What the endpoint says of a few tiles; where that fails, each of them is asked alone."""
        try:
            answers = self._until_answered(ready, tries)
        except CancelledError:
            raise
        except Exception as error:
            if len(ready) == 1 or self._outage.reason:
                return [_failed(each.tile, _words(error), tries) for each in ready]
            return [o for each in ready for o in self._answers([each], tries.anew())]
        return [
            self._read(answer, each.tile, tries)
            for each, answer in zip(ready, answers, strict=True)
        ]

    def _until_answered(self, ready: list[_Ready], tries: RetryState) -> Sequence[object]:
        """The endpoint's answers, after as many calls as it takes.

        Raises:
            EndpointError: There are none to be had.
            AnswerError: They cannot be read.
            CancelledError: Nobody waits for them any more.
        """
        while True:
            if self._closed:
                raise CancelledError
            if self._outage.reason:
                raise PermanentError(self._outage.reason)
            try:
                return self._carefully(ready, tries)
            except _NotNow:
                continue
            except EndpointError as error:
                pause = tries.wait(error, counts=not self._outage.suspected)
                if not self._outage.suspected:  # then the probes have their own pauses
                    self._outage.over.wait(pause)
                if len(ready) > 1 and (
                    tries.counted > 1 or isinstance(error, EndpointTimeoutError)
                ):
                    raise

    def _carefully(self, ready: list[_Ready], tries: RetryState) -> Sequence[object]:
        """One call, at once or, of an endpoint that seems to be down, when it is time to probe."""
        if self._outage.suspected:
            with self._outage:
                if self._outage.suspected:
                    self._outage.over.wait(self._outage.pause())
                    return self._call(ready, tries, probing=True)
        return self._call(ready, tries)

    def _call(
        self, ready: list[_Ready], tries: RetryState, *, probing: bool = False
    ) -> Sequence[object]:
        """One call, in turn.

        Raises:
            _NotNow: The endpoint was found to be down while this waited for its turn.
        """
        try:
            with self._turn():
                if self._outage.reason or (self._outage.suspected and not probing):
                    raise _NotNow
                tries.begin()
                answers = self.endpoint.ask([each.prepared for each in ready])
                self.first_answer = self.first_answer or time.time()
                if len(answers) != len(ready):
                    raise AnswerError(f"{len(answers)} answers were given for {len(ready)} tiles.")
        except LimiterClosedError:
            raise CancelledError from None
        except SwathError as error:
            tries.note(error)
            self._came_to_nothing(ready[0].tile, error)
            raise
        return answers

    def _read(self, answer: object, tile: Tile, tries: RetryState) -> Outcome:
        """An answer as detections, or why it is none."""
        try:
            read = read_answer(answer, tile)
        except Exception as error:
            told = error if isinstance(error, SwathError) else AnswerError(_words(error))
            tries.note(told)
            self._came_to_nothing(tile, told)
            return _failed(tile, str(told), tries)
        self._outage.answered()
        failed = tuple(tries.failed)
        return Outcome(
            TileRecord(
                tile, TileState.INFERRED, read.first_rejected, tries.made, read.rejected, failed
            ),
            read.detections,
        )

    def _came_to_nothing(self, tile: Tile, error: SwathError) -> None:
        if not self._closed:
            self._outage.failed(tile.index, error, self.limiter.in_flight)


def _failed(tile: Tile, reason: str, tries: RetryState | None = None) -> Outcome:
    made, failed = (tries.made, tuple(tries.failed)) if tries else (0, ())
    record = TileRecord(tile, TileState.FAILED, reason, attempts=made, failed_calls=failed)
    return Outcome(record)


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, SwathError) else f"{error!r:.{_LONGEST_REASON}}"
