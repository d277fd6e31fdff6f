"""When a failed call is retried, when a tile has failed, and when the endpoint is considered down.

A tile that makes the model fail, while the endpoint answers others, uses up its attempts and fails
alone. Where no other tile is answered, one cannot tell a bad tile from an endpoint that is down, so
the tile is retried for as long as an endpoint may be down.

An endpoint that is down fails all tiles: when as many tiles in a row as there are calls in flight
got no reply, the circuit breaker becomes half open. Then one call at a time probes the endpoint
while the others wait, and failures do not count as attempts. When the endpoint gives no answer for
too long, the breaker opens, and all remaining tiles fail at once.
"""

from __future__ import annotations

import random
import time
from threading import Event, Lock

from tasks.errors import (
    EndpointError,
    EndpointTimeoutError,
    PermanentError,
    SwathError,
    ThrottledError,
    UnreachableError,
)

_FIRST_DELAY = 0.5  # seconds, the bound of the first delay; each further bound is four times it
_LONGEST_DELAY = 20.0
_LONGEST_RETRY_AFTER = 120.0
_LONGEST_PROBE_DELAY = 5.0
_FEWEST_SILENT = 5  # minimum number of tiles in a row without a reply to consider it down
_FEWEST_REFUSED = 50  # minimum number of tiles in a row that were refused or answered unreadably
_THROTTLED_FACTOR = 3  # times the seconds that other failures are retried for
_SPARE_RETRIES = 100


class RetryBudget:
    """The retries that one region may make, over all its tiles.

    Attributes:
        size: Retries in all.
    """

    def __init__(self, tiles: int) -> None:
        """Allow one retry for each tile, and a fixed number in addition."""
        self.size = tiles + _SPARE_RETRIES
        self._spent = 0
        self._lock = Lock()

    def spend(self) -> bool:
        """Use one retry; return False if all were used before."""
        with self._lock:
            self._spent += 1
            return self._spent <= self.size


class RetryState:
    """The calls made so far for one tile, or for a few tiles that share a call.

    Attributes:
        calls: Calls made.
        counted: Failed calls that count as attempts. Throttled calls, calls without a connection,
            and calls while the endpoint is down for all tiles, do not count.
        failures: The error of each failed call, with its kind and the seconds that it took.
        failing_since: When the first failed call began, by `time.monotonic`.
    """

    def __init__(self, attempts: int, retry_seconds: float, budget: RetryBudget) -> None:
        """Start without a call.

        Args:
            attempts: Failed calls after which the tile fails, if the endpoint answers others.
            retry_seconds: Seconds from the first failure during which calls are retried; three
                times as many for throttled calls.
            budget: The retries that the region may still make.
        """
        self.calls = 0
        self.counted = 0
        self.failures: list[str] = []
        self.failing_since = float("inf")
        self._attempts, self._retry_seconds, self._budget = attempts, retry_seconds, budget
        self._backoffs = 0
        self._call_began = 0.0
        self._first_failure: dict[bool, float] = {}  # by whether it was throttled

    def begin_call(self) -> None:
        """Count a call, and start its clock."""
        self.calls += 1
        self._call_began = time.monotonic()

    def record(self, error: SwathError) -> None:
        """Add the error of the latest call to `failures`."""
        seconds = time.monotonic() - self._call_began
        self.failing_since = min(self.failing_since, self._call_began)
        self.failures.append(f"{type(error).__name__} after {seconds:.1f} s: {error}")

    def with_fresh_attempts(self) -> RetryState:
        """The state for one of the tiles alone: the calls made so far do not count as attempts."""
        fresh = RetryState(self._attempts, self._retry_seconds, self._budget)
        fresh.calls, fresh.failures = self.calls, list(self.failures)
        return fresh

    def delay(
        self, error: EndpointError, *, counts: bool = True, others_answered: bool = True
    ) -> float:
        """Seconds to wait before the next call: exponential back-off with full jitter.

        The seconds of a Retry-After header are added. See Brooker, "Exponential Backoff And
        Jitter", 2015.

        Args:
            error: The error of the latest call.
            counts: Whether the failure counts as an attempt; False while the endpoint is down for
                all tiles.
            others_answered: Whether the endpoint answers other tiles, so that the attempts of this
                one are limited.

        Raises:
            EndpointError: The same error, if no further call may be made.
        """
        now = time.monotonic()
        throttled = isinstance(error, ThrottledError)
        first = self._first_failure.setdefault(throttled, now)
        if isinstance(error, PermanentError):
            raise error
        self._backoffs += counts or throttled
        counts = counts and not throttled and not _not_connected(error)
        self.counted += counts
        spent = others_answered and self.counted >= self._attempts
        if spent or now - first > _limit(self._retry_seconds, error):
            raise error
        if others_answered and counts and not self._budget.spend():
            raise type(error)(f"{error}; the {self._budget.size} retries of this region are spent")
        retry_after = (error.retry_after or 0.0) if isinstance(error, ThrottledError) else 0.0
        backoff = min(_LONGEST_DELAY, _FIRST_DELAY * 4 ** min(9, max(1, self._backoffs) - 1))
        jittered = random.uniform(0, backoff)  # noqa: S311 - not for cryptography
        return min(_LONGEST_RETRY_AFTER, retry_after) + jittered


class CircuitBreaker:
    """The state of an endpoint, as all calls of a region together show it.

    Attributes:
        reason: Reason for which the breaker opened; empty while it is closed or half open.
        opened: Set when the breaker opens or the run ends, to end every wait for a retry.
        probe_lock: Held by the one thread that probes a half-open endpoint.
    """

    def __init__(self, retry_seconds: float) -> None:
        """Start closed.

        Args:
            retry_seconds: Seconds from the first failure, without any answer, until the breaker
                opens; three times as many for an endpoint that only throttles.
        """
        self.reason = ""
        self.opened = Event()
        self.probe_lock = Lock()
        self._retry_seconds = retry_seconds
        self._lock = Lock()
        self._throttled, self._failing = _Streak(), _Streak()
        self._silent: set[int] = set()  # failing tiles that got no reply at all
        self._probes = 0
        self._last_answer = -float("inf")

    @property
    def half_open(self) -> bool:
        """Whether the endpoint seems to be down, so that calls have to probe it in turn."""
        return self._probes > 0

    def record_answer(self) -> None:
        """Note a call that was answered: the endpoint is up."""
        self._last_answer = time.monotonic()
        if self._failing.tiles or self._throttled.tiles:
            with self._lock:
                self._throttled, self._failing = _Streak(), _Streak()
                self._silent, self._probes = set(), 0

    def answers_others(self, error: SwathError, since: float) -> bool:
        """Whether the endpoint answers other tiles than one whose calls fail.

        For a tile that got a reply, any earlier answer tells that; for one that got none, only an
        answer since its calls fail.

        Args:
            error: The error of the tile's latest call.
            since: When the first of its calls that failed began, by `time.monotonic`.
        """
        return self._last_answer >= (since if _silent(error) else 0.0)

    def record_failure(self, tile: int, error: SwathError, in_flight: int) -> None:
        """Note a call that failed.

        Args:
            tile: Index of the tile.
            error: The error of the call.
            in_flight: Calls in flight; one cause, such as a broken connection, may fail them all.
        """
        with self._lock:
            self._record_silence(tile, error, in_flight)
            throttled = isinstance(error, ThrottledError)
            streak = self._throttled if throttled else self._failing
            seconds = streak.add(tile)
            fewest = _FEWEST_SILENT if self._silent or throttled else _FEWEST_REFUSED
            enough = len(streak.tiles) >= max(in_flight, fewest)
            if enough and seconds > _limit(self._retry_seconds, error):
                self.reason = (
                    f"the endpoint was given up after {seconds:.0f} s without an answer; "
                    f"the last error: {error}"
                )
                self.opened.set()

    def probe_delay(self) -> float:
        """Seconds to wait before the next probe; 0 if an answer has just closed the breaker."""
        with self._lock:
            if not self._probes:
                return 0.0
            self._probes += 1
            return min(_LONGEST_PROBE_DELAY, _FIRST_DELAY * 2.0 ** min(9, self._probes - 2))

    def _record_silence(self, tile: int, error: SwathError, in_flight: int) -> None:
        """Become half open after enough tiles without a reply; any other failure is a reply."""
        if _silent(error):
            self._silent.add(tile)
            if len(self._silent) >= max(_FEWEST_SILENT, in_flight):
                self._probes = max(self._probes, 1)
        elif not isinstance(error, ThrottledError):
            self._silent.clear()
            self._probes = 0


class _Streak:
    """Tiles whose calls failed, since the endpoint's last answer.

    Attributes:
        tiles: Their indices.
    """

    def __init__(self) -> None:
        self.tiles: set[int] = set()
        self._began = 0.0

    def add(self, tile: int) -> float:
        """Add a tile; return the seconds since the streak's first failure."""
        if not self.tiles:
            self._began = time.monotonic()
        self.tiles.add(tile)
        return time.monotonic() - self._began


def _silent(error: SwathError) -> bool:
    """Whether a call got no reply at all."""
    return isinstance(error, UnreachableError | EndpointTimeoutError)


def _not_connected(error: SwathError) -> bool:
    """Whether a call could not be made, so that it tells nothing of its tile."""
    return isinstance(error, UnreachableError) and not error.connected


def _limit(retry_seconds: float, error: SwathError) -> float:
    """Seconds during which failures of this kind are retried."""
    return retry_seconds * (_THROTTLED_FACTOR if isinstance(error, ThrottledError) else 1)
