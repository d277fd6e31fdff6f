"""How many calls to an endpoint are in flight at a time: no more than it takes, or than we may."""

from __future__ import annotations

import time
from collections import deque
from threading import Lock
from types import TracebackType

from tasks.errors import EndpointTimeoutError, SwathError, ThrottledError
from tasks.inference.concurrency_estimator import START, ConcurrencyEstimator

_RECENT = 2.0  # seconds that a peak of demand is remembered, once to twice


class LimiterClosedError(SwathError):
    """No further calls are made: the region's run is ending."""


class Permit:
    """One call: entering waits until it may be made, leaving tells how it went.

    An exception on the way out tells: `ThrottledError` and `EndpointTimeoutError` count against
    the endpoint, others say nothing of its capacity, and without one the endpoint answered.
    """

    __slots__ = ("_limiter", "began", "gate", "others")

    def __init__(self, limiter: Limiter) -> None:
        """Not waiting yet."""
        self._limiter = limiter
        self.others: int | None = None  # in flight when this was let in; None where it was not
        self.gate: Lock | None = None
        self.began = 0.0

    def __enter__(self) -> None:
        """Wait for the turn.

        Raises:
            LimiterClosedError: The limiter is closed, or was while this waited.
        """
        self._limiter.enter(self)
        self.began = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the next one in."""
        self._limiter.leave(self, kind)


class Limiter:
    """Turns to call an endpoint, for many threads; first come, first served.

    As many calls are in flight as the endpoint is estimated to take (`ConcurrencyEstimator`), and
    no more than `max_in_flight`. A call that waits to be retried holds no permit:

        with limiter.permit():
            answers = endpoint.ask(prepared)
    """

    def __init__(self, max_in_flight: int) -> None:
        """Let nobody wait yet.

        Args:
            max_in_flight: Calls that may be in flight at a time, 0 or more.
        """
        self._lock = Lock()
        self._waiting: deque[Permit] = deque()
        self._capacity = ConcurrencyEstimator()
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._closed = False
        self._peaks, self._peaks_since = (START, 0), time.monotonic()  # demand: before, since

    def permit(self) -> Permit:
        """A turn to take with `with`, once."""
        return Permit(self)

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Calls that wait for their turn."""
        return len(self._waiting)

    @property
    def limit(self) -> int:
        """Calls that the endpoint is thought to take at a time, 1 or more."""
        return self._capacity.limit

    @property
    def max_in_flight(self) -> int:
        """Calls that may be in flight at a time; when lowered, those under way go on."""
        return self._max_in_flight

    @max_in_flight.setter
    def max_in_flight(self, max_in_flight: int) -> None:
        with self._lock:
            self._max_in_flight = max_in_flight
            self._let_in()

    @property
    def demand(self) -> int:
        """Calls that could be in flight soon, if `max_in_flight` were not: 0 where nobody calls."""
        with self._lock:
            self._note_demand()
            return min(self._capacity.reach, max(self._peaks))

    def close(self) -> None:
        """Let nobody in any more, and send away who waits; calls under way go on."""
        with self._lock:
            self._closed = True
            for turn in self._waiting:
                assert turn.gate is not None
                turn.gate.release()
            self._waiting.clear()

    def enter(self, turn: Permit) -> None:
        """Wait for a turn; for `Permit` alone."""
        with self._lock:
            self._check_open()
            if not self._waiting and self._has_room():
                self._admit(turn)
                self._note_demand()
                return
            gate = turn.gate = Lock()
            gate.acquire()
            self._waiting.append(turn)
            self._note_demand()
        try:
            gate.acquire()
        except BaseException:
            self._give_up(turn)
            raise
        if turn.others is None:
            self._check_open()

    def leave(self, turn: Permit, kind: type[BaseException] | None) -> None:
        """End a turn that an exception of a kind ended, or an answer; for `Permit` alone."""
        now = time.monotonic()
        assert turn.others is not None
        with self._lock:
            self._in_flight -= 1
            if kind is None:
                saturated = bool(self._waiting) and self._capacity.limit < self._max_in_flight
                self._capacity.answered(now, now - turn.began, turn.others, saturated=saturated)
            elif issubclass(kind, ThrottledError):
                # who waits takes the place of who was answered; else count those of the beginning
                least = 0 if self._waiting else turn.others
                self._capacity.throttled(now, max(least, self._in_flight))
            elif issubclass(kind, EndpointTimeoutError):
                self._capacity.timed_out(now, now - turn.began)
            self._let_in()

    def _check_open(self) -> None:
        if self._closed:
            raise LimiterClosedError(
                "No call is made: the region's run is ending, and its limiter is closed."
            )

    def _has_room(self) -> bool:
        return self._in_flight < self._max_in_flight and self._in_flight < self._capacity.limit

    def _admit(self, turn: Permit) -> None:
        turn.others = self._in_flight
        self._in_flight += 1

    def _let_in(self) -> None:
        """Open the gates of those whose turn it is."""
        while self._waiting and self._has_room():
            turn = self._waiting.popleft()
            self._admit(turn)
            assert turn.gate is not None
            turn.gate.release()

    def _give_up(self, turn: Permit) -> None:
        """Take back a turn whose thread was interrupted while it waited."""
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)
            elif turn.others is not None:
                self._in_flight -= 1
                self._let_in()

    def _note_demand(self) -> None:
        """Keep the peak of calls that were under way or waiting, for a while."""
        before, peak = self._peaks
        now = time.monotonic()
        if now - self._peaks_since > _RECENT:
            before, peak = (peak, 0) if now - self._peaks_since <= 2 * _RECENT else (0, 0)
            self._peaks_since = now
        self._peaks = before, max(peak, self._in_flight + len(self._waiting))
