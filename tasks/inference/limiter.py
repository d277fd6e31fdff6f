"""Limits how many calls to an endpoint are in flight at a time."""

from __future__ import annotations

import time
from collections import deque
from threading import Lock
from types import TracebackType

from tasks.errors import EndpointTimeoutError, SwathError, ThrottledError
from tasks.inference.concurrency_estimator import CapacityEstimate, ConcurrencyEstimator

_DEMAND_SECONDS = 2.0  # length of an interval; a peak of demand counts for one or two intervals


class LimiterClosedError(SwathError):
    """No further calls are made: the region's run is ending."""


class Permit:
    """The permit for one call, as a context manager.

    Entering waits until the call may be made. Leaving reports the result of the call: without an
    exception it was answered; `ThrottledError` and `EndpointTimeoutError` lower the estimate of the
    endpoint's capacity; other exceptions do not change it.

    Attributes:
        gate: Locked while the permit waits, released to grant it; None if it did not have to wait.
        in_flight_before: Calls in flight when the permit was granted; None before.
        began: Time when it was granted, in seconds of the monotonic clock.
    """

    __slots__ = ("_limiter", "began", "gate", "in_flight_before")

    def __init__(self, limiter: Limiter) -> None:
        """Create a permit that is not granted and does not wait yet."""
        self._limiter = limiter
        self.in_flight_before: int | None = None
        self.gate: Lock | None = None
        self.began = 0.0

    def __enter__(self) -> None:
        """Wait for the permit.

        Raises:
            LimiterClosedError: The limiter is closed, or was closed during the wait.
        """
        self._limiter.acquire(self)
        self.began = time.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the permit back."""
        self._limiter.release(self, kind)


class Limiter:
    """Permits to call an endpoint, for many threads; first come, first served.

    As many calls are in flight as the endpoint is estimated to take (`ConcurrencyEstimator`), and
    no more than `max_in_flight`. A call that waits to be retried holds no permit:

        with limiter.permit():
            answers = endpoint.ask(prepared)
    """

    def __init__(self, max_in_flight: int, earlier: CapacityEstimate | None = None) -> None:
        """Start without a call.

        Args:
            max_in_flight: Calls that may be in flight at a time, 0 or more.
            earlier: An earlier estimate of the endpoint's capacity, to start with.
        """
        self._lock = Lock()
        self._waiting: deque[Permit] = deque()
        self._estimator = ConcurrencyEstimator(earlier)
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._closed = False
        # of demand: in the last interval, in the present one
        self._peaks = self._estimator.limit, 0
        self._interval_began = time.monotonic()

    def permit(self) -> Permit:
        """The permit for one call, to be used in a `with` statement."""
        return Permit(self)

    @property
    def in_flight(self) -> int:
        """Calls in flight."""
        return self._in_flight

    @property
    def max_in_flight(self) -> int:
        """Calls that may be in flight at a time; lowering it ends none of those in flight."""
        return self._max_in_flight

    @max_in_flight.setter
    def max_in_flight(self, max_in_flight: int) -> None:
        with self._lock:
            self._max_in_flight = max_in_flight
            self._grant()

    @property
    def demand(self) -> int:
        """Calls that would soon be in flight without `max_in_flight`; 0 if no thread calls."""
        with self._lock:
            self._note_demand()
            return min(self._estimator.reach, max(self._peaks))

    @property
    def estimate(self) -> CapacityEstimate | None:
        """What is known about the endpoint's capacity; None if too few calls were answered."""
        with self._lock:
            return self._estimator.estimate

    def close(self) -> None:
        """Grant no further permits, and end all waiting; calls in flight are not affected."""
        with self._lock:
            self._closed = True
            for permit in self._waiting:
                assert permit.gate is not None
                permit.gate.release()
            self._waiting.clear()

    def acquire(self, permit: Permit) -> None:
        """Wait until a permit is granted; called by `Permit`."""
        with self._lock:
            self._check_open()
            if not self._waiting and self._has_room():
                self._admit(permit)
                self._note_demand()
                return
            gate = permit.gate = Lock()
            gate.acquire()
            self._waiting.append(permit)
            self._note_demand()
        try:
            gate.acquire()
        except BaseException:
            self._withdraw(permit)
            raise
        if permit.in_flight_before is None:
            self._check_open()

    def release(self, permit: Permit, kind: type[BaseException] | None) -> None:
        """Take a permit back; called by `Permit`.

        Args:
            permit: The permit.
            kind: Type of the exception that ended the call; None if it was answered.
        """
        now = time.monotonic()
        assert permit.in_flight_before is not None
        with self._lock:
            self._in_flight -= 1
            seconds = now - permit.began
            if kind is None:
                saturated = bool(self._waiting) and self._estimator.limit < self._max_in_flight
                self._estimator.answered(now, seconds, permit.in_flight_before, saturated=saturated)
            elif issubclass(kind, ThrottledError):
                # while permits wait, each answered call is replaced at once, so the calls in flight
                # now are those that the endpoint took; otherwise the number at the beginning of
                # the throttled call is closer to the limit
                least = 0 if self._waiting else permit.in_flight_before
                self._estimator.throttled(now, max(least, self._in_flight))
            elif issubclass(kind, EndpointTimeoutError):
                self._estimator.timed_out(now, seconds)
            self._grant()

    def _check_open(self) -> None:
        if self._closed:
            raise LimiterClosedError(
                "No call is made: the region's run is ending, and its limiter is closed."
            )

    def _has_room(self) -> bool:
        return self._in_flight < min(self._max_in_flight, self._estimator.limit)

    def _admit(self, permit: Permit) -> None:
        permit.in_flight_before = self._in_flight
        self._in_flight += 1

    def _grant(self) -> None:
        """Grant waiting permits, in order, while fewer calls are in flight than the limit."""
        while self._waiting and self._has_room():
            permit = self._waiting.popleft()
            self._admit(permit)
            assert permit.gate is not None
            permit.gate.release()

    def _withdraw(self, permit: Permit) -> None:
        """Take back a permit whose thread was interrupted during the wait."""
        with self._lock:
            if permit in self._waiting:
                self._waiting.remove(permit)
            elif permit.in_flight_before is not None:
                self._in_flight -= 1
                self._grant()

    def _note_demand(self) -> None:
        """Update the peaks of calls in flight or waiting, of this interval and the last one."""
        last, peak = self._peaks
        now = time.monotonic()
        elapsed = now - self._interval_began
        if elapsed > _DEMAND_SECONDS:
            last, peak = (peak, 0) if elapsed <= 2 * _DEMAND_SECONDS else (0, 0)
            self._interval_began = now
        self._peaks = last, max(peak, self._in_flight + len(self._waiting))
