"""Counts and times the calls of a model, and the tiles that they are made for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from tasks.errors import (
    AnswerError,
    EndpointTimeoutError,
    PermanentError,
    SwathError,
    ThrottledError,
    UnreachableError,
)
from tasks.inference.limiter import Limiter
from tasks.results.coverage import TileState
from tasks.results.tile_results import Outcome
from tasks.telemetry.catalogue import (
    CALL_LIMIT,
    CALLS,
    CALLS_IN_FLIGHT,
    DURATION,
    ERRORS,
    FAILED_CALLS,
    INVOCATIONS,
    RETRIES,
    TILES,
    UTILIZATION,
    Metric,
    Operation,
)
from tasks.telemetry.source import SOURCE, Key

_REASONS = {
    ThrottledError: "throttled",
    EndpointTimeoutError: "timeout",
    UnreachableError: "unreachable",
    PermanentError: "refused",
    AnswerError: "answer",
}


class CallMetrics:
    """The metrics of the calls of one model for images of one format."""

    def __init__(self, model: str, input_format: str) -> None:
        """Count nothing yet.

        Args:
            model: Name of the model, as metrics have it.
            input_format: Format of the images.
        """
        self.model, self._format = model, input_format
        of_model = ("ModelName", model)
        self._generation = _keys(Operation.TILE_GENERATION, ("InputFormat", input_format))
        self._tile = _keys(Operation.TILE, of_model)
        self._call = _keys(Operation.MODEL, of_model)
        self._refinement = _keys(Operation.REFINEMENT)
        self._calls: Key = CALLS, (of_model,)

    def generated(self, began: float, ready: int, others: Sequence[Outcome]) -> None:
        """The tiles of a call were made ready to be sent.

        Args:
            began: When that began, by `time.perf_counter`.
            ready: Number of those that are.
            others: The outcomes of those that are not sent, as they are blank or have failed.
        """
        failed = sum(each.record.state is TileState.FAILED for each in others)
        if tiles := ready + failed:
            seconds = (time.perf_counter() - began) / tiles
            _record(self._generation, tiles, [seconds] * tiles, failed)

    def answered(self, seconds: float) -> None:
        """A call was answered."""
        SOURCE.record(self._call[DURATION], [seconds])
        SOURCE.record(self._calls, [1])

    def failed(self, error: SwathError, *, made: bool = True) -> None:
        """A call failed.

        Args:
            error: Why.
            made: Whether the call was not counted as an answered one before.
        """
        kinds = (reason for kind, reason in _REASONS.items() if isinstance(error, kind))
        reason = next(kinds, "error")
        SOURCE.add(FAILED_CALLS, ModelName=self.model, Reason=reason)
        if made:
            SOURCE.record(self._calls, [1])

    def settled(self, calls: int, *, given_up: bool) -> None:
        """No further call is made for a tile, or for a few that share a call.

        Args:
            calls: Calls that were made for it.
            given_up: Whether none was answered.
        """
        if not calls:
            return
        SOURCE.record(self._call[INVOCATIONS], [1])
        if calls > 1:
            SOURCE.record(self._call[RETRIES], [calls - 1])
        if given_up:
            SOURCE.record(self._call[ERRORS], [1])

    def refined(self, began: float) -> None:
        """The answer to a tile was read, since `began` by `time.perf_counter`."""
        _record(self._refinement, 1, [time.perf_counter() - began], 0)

    def processed(self, began: float, sent: int, outcomes: Sequence[Outcome]) -> None:
        """All is done for the tiles of a call.

        Args:
            began: When the work on them began, by `time.perf_counter`.
            sent: Number of those that were sent.
            outcomes: The outcomes of all of them.
        """
        seconds = time.perf_counter() - began
        states = Counter(outcome.record.state for outcome in outcomes)
        if sent:
            failed = min(sent, states[TileState.FAILED])
            _record(self._tile, sent, [seconds] * sent, failed)
        count_tiles(self.model, states.elements())


def count_tiles(model: str, states: Iterable[TileState]) -> None:
    """Count tiles that have reached their final states.

    Args:
        model: Name of the model, as metrics have it.
        states: The state of each.
    """
    for state, tiles in Counter(states).items():
        SOURCE.add(TILES, tiles, ModelName=model, State=state.value)


@contextmanager
def call_gauges(model: str, limiter: Limiter) -> Iterator[None]:
    """While it is open, tell how many calls are in flight, and may be.

    Args:
        model: Name of the model, as metrics have it.
        limiter: Of its calls.
    """

    def utilization() -> float | None:
        limit = limiter.max_in_flight
        return 100 * limiter.in_flight / limit if limit else None

    of = {"ModelName": model}
    with (
        SOURCE.gauge(CALLS_IN_FLIGHT, lambda: limiter.in_flight, **of),
        SOURCE.gauge(CALL_LIMIT, lambda: limiter.max_in_flight, **of),
        SOURCE.gauge(UTILIZATION, utilization, Operation=Operation.SCHEDULING.value, **of),
    ):
        yield


def _keys(operation: Operation, *further: tuple[str, str]) -> dict[Metric, Key]:
    dimensions = (("Operation", operation.value), *further)
    return {metric: (metric, dimensions) for metric in (DURATION, INVOCATIONS, ERRORS, RETRIES)}


def _record(
    keys: dict[Metric, Key], invocations: int, seconds: Sequence[float], errors: int
) -> None:
    SOURCE.record(keys[INVOCATIONS], [invocations])
    SOURCE.record(keys[DURATION], seconds)
    if errors:
        SOURCE.record(keys[ERRORS], [errors])
