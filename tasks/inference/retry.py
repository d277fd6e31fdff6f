"""Patience with an endpoint: how long to wait before a tile's next call, and when to give up.

A tile that alone is poison spends its attempts and fails alone. An endpoint that answers nobody is
another matter: once as many tiles as there are calls got no reply, with no answer between, one call
at a time probes it while the rest wait, and no attempts are counted; and when it has answered
nothing for the operator's patience, it is given up with all that is left.
"""

from __future__ import annotations

import random
import time
from contextlib import AbstractContextManager
from threading import Event, Lock
from typing import Self

from tasks.errors import (
    EndpointError,
    EndpointTimeoutError,
    PermanentError,
    SwathError,
    ThrottledError,
    UnreachableError,
)

_FIRST_WAIT = 0.5  # seconds, at most; each further one may be four times as long
_LONGEST_WAIT = 20.0
_LONGEST_RETRY_AFTER = 120.0
_LONGEST_PAUSE = 5.0  # before the next probe of an endpoint that answers nobody
_FEW = 5  # tiles that fail in a row, at least, before it is the endpoint that is to blame
_MANY = 50  # tiles in a row that an endpoint refuses, or answers with nonsense
_FORBEARANCE = 3  # times the patience that throttling is met with
_SPARE_RETRIES = 100


class RetryBudget:
    """Calls that may be made again in one region, over all its tiles."""

    def __init__(self, tiles: int) -> None:
        """One for each tile, and some."""
        self.size = tiles + _SPARE_RETRIES
        self._spent = 0
        self._lock = Lock()

    def spend(self) -> bool:
        """Take one; False where none is left."""
        with self._lock:
            self._spent += 1
            return self._spent <= self.size


class RetryState:
    """The calls made for one tile so far, or for a few that are asked about together.

    Attributes:
        made: How many calls.
        counted: How many failed for another reason than throttling.
        failed: What became of each that failed.
    """

    def __init__(self, attempts: int, patience: float, budget: RetryBudget) -> None:
        """No call yet.

        Args:
            attempts: Calls that may fail; throttled ones do not count.
            patience: Seconds from the first failure on; with throttling, three times as long.
            budget: Of the region.
        """
        self.made = 0
        self.failed: list[str] = []
        self._attempts, self._patience, self._budget = attempts, patience, budget
        self.counted = self._throttled = 0
        self._began = 0.0
        self._since: dict[bool, float] = {}  # whether throttled: when first

    def begin(self) -> None:
        """A call is made."""
        self.made += 1
        self._began = time.monotonic()

    def anew(self) -> RetryState:
        """The same calls made, none of them counted against further ones."""
        tries = RetryState(self._attempts, self._patience, self._budget)
        tries.made, tries.failed = self.made, list(self.failed)
        return tries

    def note(self, error: SwathError) -> None:
        """Remember how a call failed."""
        seconds = time.monotonic() - self._began
        self.failed.append(f"{type(error).__name__} after {seconds:.1f} s: {error}")

    def wait(self, error: EndpointError, *, counts: bool = True) -> float:
        """Seconds to wait after a call that failed: exponential, with full jitter.

        See Brooker, "Exponential Backoff And Jitter", 2015. Retry-After is waited out before.

        Args:
            error: How it failed.
            counts: Whether it is one of the tile's attempts; not where the endpoint seems to be
                down for all.

        Raises:
            EndpointError: The same one, where no further call is to be made.
        """
        now = time.monotonic()
        throttled = isinstance(error, ThrottledError)
        since = self._since.setdefault(throttled, now)
        if isinstance(error, PermanentError):
            raise error
        self._throttled += throttled
        self.counted += counts and not throttled
        patience = self._patience * (_FORBEARANCE if throttled else 1)
        if self.counted >= self._attempts or now - since > patience:
            raise error
        if counts and not throttled and not self._budget.spend():
            raise type(error)(f"{error}; the {self._budget.size} retries of this region are spent")
        least = (error.retry_after or 0.0) if isinstance(error, ThrottledError) else 0.0
        backoff = min(
            _LONGEST_WAIT, _FIRST_WAIT * 4 ** min(9, max(0, self.counted + self._throttled - 1))
        )
        return min(_LONGEST_RETRY_AFTER, least) + random.uniform(0, backoff)  # noqa: S311 - jitter


class _Streak:
    """Tiles whose calls failed one after the other.

    Attributes:
        tiles: Their indices.
    """

    def __init__(self) -> None:
        self.tiles: set[int] = set()
        self._began = 0.0

    def add(self, tile: int) -> float:
        """Seconds since the first failure."""
        if not self.tiles:
            self._began = time.monotonic()
        self.tiles.add(tile)
        return time.monotonic() - self._began


class CircuitBreaker(AbstractContextManager["CircuitBreaker"]):
    """What a region's calls find out about their endpoint together.

    Held as a context by the one who probes.

    Attributes:
        reason: Why the endpoint was given up; empty where it was not.
        over: Set when it was: nobody need wait any longer.
    """

    def __init__(self, patience: float) -> None:
        """No failure yet.

        Args:
            patience: Seconds without an answer, from the first failure on, that the endpoint is
                given; three times as many where it does nothing but throttle.
        """
        self.reason = ""
        self.over = Event()
        self._patience = patience
        self._lock, self._probe = Lock(), Lock()
        self._throttled, self._failing = _Streak(), _Streak()
        self._silent: set[int] = set()  # of the failing tiles, where the endpoint said nothing
        self._probes = 0

    @property
    def suspected(self) -> bool:
        """Whether it answers nobody, as far as one can tell."""
        return self._probes > 0

    def answered(self) -> None:
        """A call came to an answer."""
        if self._failing.tiles or self._throttled.tiles:
            with self._lock:
                self._throttled, self._failing = _Streak(), _Streak()
                self._silent, self._probes = set(), 0

    def failed(self, tile: int, error: SwathError, in_flight: int) -> None:
        """A call came to nothing.

        Args:
            tile: Index of the tile.
            error: How it failed.
            in_flight: Calls under way at the time: as many failures may be of one moment.
        """
        with self._lock:
            throttled = isinstance(error, ThrottledError)
            self._listen(tile, error, in_flight)
            streak = self._throttled if throttled else self._failing
            seconds = streak.add(tile)
            many = max(in_flight, _FEW if self._silent or throttled else _MANY)
            patience = self._patience * (_FORBEARANCE if throttled else 1)
            if len(streak.tiles) >= many and seconds > patience:
                self.reason = (
                    f"the endpoint was given up after {seconds:.0f} s without an answer; "
                    f"at last: {error}"
                )
                self.over.set()

    def _listen(self, tile: int, error: SwathError, in_flight: int) -> None:
        """Tell silence, which calls for probes, from a refusal, which is a sign of life."""
        if isinstance(error, UnreachableError | EndpointTimeoutError):
            self._silent.add(tile)
            if len(self._silent) >= max(_FEW, in_flight):
                self._probes = max(self._probes, 1)
        elif not isinstance(error, ThrottledError):
            self._silent.clear()
            self._probes = 0

    def pause(self) -> float:
        """Seconds to wait before the next probe."""
        self._probes += 1
        return min(_LONGEST_PAUSE, _FIRST_WAIT * 2.0 ** min(9, self._probes - 2))

    def __enter__(self) -> Self:
        """Wait for one's turn to probe."""
        self._probe.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        """Let the next one probe."""
        self._probe.release()
