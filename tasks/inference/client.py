"""Calls an endpoint for a region's tiles: many calls at a time, each retried until it is answered.

`tasks.inference.retry` decides when retries end, `tasks.inference.limiter` how many calls are in
flight.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from copy import copy
from threading import BoundedSemaphore, Event

from tasks.cost.limit import Spending
from tasks.errors import (
    AnswerError,
    EndpointError,
    EndpointTimeoutError,
    LimitReachedError,
    PermanentError,
    PublishError,
    SwathError,
)
from tasks.grid.tiles import Tile
from tasks.imagery import ReadTile, TilePreparation
from tasks.inference.answer import read_answer
from tasks.inference.answer.validity import drop_without_data
from tasks.inference.call_metrics import CallMetrics
from tasks.inference.endpoint import Endpoint
from tasks.inference.failed_call_log import FailedCallLog
from tasks.inference.limiter import Limiter, LimiterClosedError
from tasks.inference.outcomes import failed, text_of
from tasks.inference.ready_tiles import ReadyTile, make_ready
from tasks.inference.retry import CircuitBreaker, RetryBudget, RetryState
from tasks.results.coverage import TileRecord, TileState
from tasks.results.tile_results import Outcome

Keep = Callable[[Sequence[Outcome]], None]
"""Takes the outcomes of the tiles of a call, in the thread of the call."""


class _EndpointDown(Exception):  # noqa: N818 - nothing is wrong with the tile
    """The endpoint went down while a call waited for its permit: the call was not made."""


class InferenceClient:
    """A region's calls of its endpoint.

    Attributes:
        endpoint: The model.
        limiter: Grants the permits to call it.
        tiles_per_call: Maximum number of tiles in one call.
        metrics: Counts the calls.
        first_answer: When the endpoint first answered, in seconds since 1970; None before.
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
        keep: Keep = lambda _: None,
        preparation: TilePreparation | None = None,
        metrics: CallMetrics | None = None,
        spending: Spending | None = None,
    ) -> None:
        """Start without a call.

        Args:
            endpoint: The model.
            limiter: Grants the permits to call it.
            tiles: Number of tiles in the region.
            max_calls: Calls in memory at a time, 1 or more: in flight, waiting for a permit, or
                waiting to be retried.
            attempts: Maximum number of failed calls for one tile while others are answered;
                throttled calls do not count.
            retry_seconds: Seconds from a tile's first failed call during which it is retried; also
                the seconds without any answer after which the endpoint is given up.
            keep: Is given the outcomes.
            preparation: Changes tiles before the endpoint gets them; None to leave them as read.
            metrics: Counts the calls; None for those of a model without a name.
            spending: Is asked before the first call for a tile; None without a limit.
        """
        self.endpoint, self.limiter = endpoint, limiter
        self.tiles_per_call = endpoint.tiles_per_call
        self.first_answer: float | None = None
        self._keep, self._preparation, self._spending = keep, preparation, spending
        self.metrics = metrics or CallMetrics("", "")
        self._failed_calls = FailedCallLog()
        self._attempts, self._retry_seconds = attempts, retry_seconds
        self._budget, self._breaker = RetryBudget(tiles), CircuitBreaker(retry_seconds)
        # a model in this process is limited by the number of threads alone
        self._permit = nullcontext if endpoint.local else limiter.permit
        self._closed, self._cancelled = Event(), False
        self._in_memory = BoundedSemaphore(max_calls)
        threads = min(max_calls, endpoint.capacity or max_calls) if endpoint.local else max_calls
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="calls")

    def for_region(self, tiles: int, keep: Keep) -> InferenceClient:
        """A client for another region, which shares all but the outcomes and the retries.

        Args:
            tiles: Number of tiles in that region, which may make as many retries.
            keep: Is given the outcomes.
        """
        client = copy(self)
        client.first_answer = None
        client._keep = keep  # noqa: SLF001 - of this class
        client._budget = RetryBudget(tiles)  # noqa: SLF001 - of this class
        client._failed_calls = FailedCallLog()  # noqa: SLF001 - of this class
        return client

    @property
    def answered(self) -> bool:
        """Whether the endpoint has answered a call of this region, and seems to be up."""
        return self.first_answer is not None and not (self._breaker.half_open or self.stop_reason)

    @property
    def stop_reason(self) -> str:
        """Why no further tile need be read: the endpoint was given up, or the limit is reached."""
        return self._breaker.reason or self.limit_reached

    @property
    def limit_reached(self) -> str:
        """Why the job may ask for no further tile; empty while it may."""
        return self._spending.reached if self._spending else ""

    def submit(self, tiles: list[ReadTile]) -> Future[int]:
        """Start one call for these tiles in another thread.

        Blocks while `max_calls` calls are in memory.

        Args:
            tiles: 1 to `tiles_per_call` tiles. The list is emptied as soon as they are encoded: the
                tiles are views of strips of pixels, whose memory is then free.

        Returns:
            The number of tiles, once their outcomes were given to `keep`.
        """
        self._in_memory.acquire()
        # what is logged about a call says whose it is
        future = self._threads.submit(copy_context().run, self._work, tiles)
        future.add_done_callback(lambda _: self._in_memory.release())
        return future

    def cancel(self) -> None:
        """End the calls of this region alone: those in flight are waited for, none is made anew."""
        self._cancelled = True

    def close(self) -> None:
        """End all calls at once, those in flight too, of every region that shares the endpoint."""
        self._closed.set()
        self._breaker.opened.set()
        self.limiter.close()
        self.endpoint.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _work(self, tiles: list[ReadTile]) -> int:
        """Keep the outcome of each tile; one that fails is recorded, no error is raised for it."""
        began = time.perf_counter()
        prepared = [make_ready(tile, self.endpoint, self._preparation) for tile in tiles]
        tiles.clear()
        ready = [each for each in prepared if isinstance(each, ReadyTile)]
        outcomes = [each for each in prepared if isinstance(each, Outcome)]
        self.metrics.generated(began, len(ready), outcomes)
        if ready:
            state = RetryState(self._attempts, self._retry_seconds, self._budget)
            outcomes += self._infer(ready, state)
        self._keep(outcomes)
        self.metrics.processed(began, len(ready), outcomes)
        return len(outcomes)

    def _infer(self, ready: list[ReadyTile], state: RetryState) -> list[Outcome]:
        """The outcomes of tiles, asked for in one call; if it fails, in one call for each tile."""
        earlier = state.calls
        try:
            answers = self._call_until_answered(ready, state)
        except CancelledError:
            raise
        except Exception as error:
            self.metrics.settled(state.calls - earlier, given_up=True)
            if len(ready) == 1 or self._breaker.reason:
                return [failed(each.tile, text_of(error), state) for each in ready]
            return [
                outcome
                for each in ready
                for outcome in self._infer([each], state.with_fresh_attempts())
            ]
        self.metrics.settled(state.calls - earlier, given_up=False)
        return [
            self._read(answer, each, state) for each, answer in zip(ready, answers, strict=True)
        ]

    def _call_until_answered(self, ready: list[ReadyTile], state: RetryState) -> Sequence[object]:
        """The endpoint's answers, after as many calls as necessary and allowed.

        Raises:
            EndpointError: The endpoint did not answer, and no further call may be made.
            AnswerError: The answers cannot be read.
            CancelledError: The client was closed.
        """
        while True:
            if self._closed.is_set() or self._cancelled:
                raise CancelledError
            if self._breaker.reason:
                raise PermanentError(self._breaker.reason)
            try:
                return self._call_or_probe(ready, state)
            except _EndpointDown:
                continue
            except EndpointError as error:
                others_answered = self.endpoint.local or self._breaker.answers_others(
                    error, state.failing_since
                )
                delay = state.delay(
                    error, counts=not self._breaker.half_open, others_answered=others_answered
                )
                if not self._breaker.half_open:  # otherwise the delay between probes applies
                    self._breaker.opened.wait(delay)
                timed_out = isinstance(error, EndpointTimeoutError)
                if len(ready) > 1 and (state.counted > 1 or timed_out):
                    raise

    def _call_or_probe(self, ready: list[ReadyTile], state: RetryState) -> Sequence[object]:
        """One call: at once or, while the endpoint seems to be down, as the next probe."""
        if self._breaker.half_open:
            with self._breaker.probe_lock:
                if self._breaker.half_open:
                    self._breaker.opened.wait(self._breaker.probe_delay())
                    return self._call(ready, state, probe=True)
        return self._call(ready, state)

    def _call(
        self, ready: list[ReadyTile], state: RetryState, *, probe: bool = False
    ) -> Sequence[object]:
        """One call, as soon as there is a permit for it.

        Raises:
            _EndpointDown: The endpoint went down before the call was made.
        """
        try:
            with self._permit():
                if self._breaker.reason or (self._breaker.half_open and not probe):
                    raise _EndpointDown
                if self._spending and not state.calls:
                    self._spending.take(len(ready))
                state.begin_call()
                began = time.perf_counter()
                answers = self.endpoint.ask([each.prepared for each in ready])
                self.metrics.answered(time.perf_counter() - began)
                self.first_answer = self.first_answer or time.time()
                if len(answers) != len(ready):
                    raise AnswerError(f"{len(answers)} answers were given for {len(ready)} tiles.")
        except LimiterClosedError:
            raise CancelledError from None
        except (LimitReachedError, PublishError):
            raise
        except SwathError as error:
            state.record(error)
            self.metrics.failed(error, made=not isinstance(error, AnswerError))
            self._record_failure(ready[0].tile, error)
            raise
        return answers

    def _read(self, answer: object, ready: ReadyTile, state: RetryState) -> Outcome:
        """The outcome of a tile that was answered; an answer that cannot be read fails it."""
        tile, began = ready.tile, time.perf_counter()
        try:
            sent = self._preparation.sent(tile) if self._preparation else tile
            read = read_answer(answer, sent)
            found, dropped = drop_without_data(read.detections, sent.window, ready.valid)
            if self._preparation:
                found = self._preparation.in_image(found, tile)
        except Exception as error:
            failure = error if isinstance(error, SwathError) else AnswerError(text_of(error))
            state.record(failure)
            self.metrics.failed(failure, made=False)
            self._record_failure(tile, failure)
            return failed(tile, str(failure), state)
        self._breaker.record_answer()
        self.metrics.refined(began)
        record = TileRecord(
            tile,
            TileState.INFERRED,
            read.first_rejected,
            attempts=state.calls - 1 + read.views,
            rejected=read.rejected,
            without_data=dropped,
            failed_calls=tuple(state.failures),
        )
        return Outcome(record, found, read.map)

    def _record_failure(self, tile: Tile, error: SwathError) -> None:
        if not self._closed.is_set():  # closing makes calls fail, whatever the endpoint does
            self._failed_calls.add(tile, error)
            self._breaker.record_failure(tile.index, error, self.limiter.in_flight)
