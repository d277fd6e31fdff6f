"""Estimates how many calls an endpoint takes at a time, from latency, throttling and time-outs.

The estimate grows as TCP's congestion window does: it doubles in each round trip until a call shows
a limit. A throttled call shows it exactly: the number of other calls that were in flight. The
estimate then holds that value for a while before it grows again: by one in the first round trip, so
that few calls are throttled if the limit is the same, then by twice as many in each further one.

An endpoint that queues calls instead of throttling them shows it in its latency: the mean over a
round trip is compared with the lowest mean so far. Difficult tiles make calls slow too, so slow
calls are tested: with fewer calls in flight a queue gets shorter (Little's law), but difficult
tiles stay slow.

Jacobson, "Congestion Avoidance and Control" (1988); Brakmo and Peterson, "TCP Vegas" (1995).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

START = 4  # calls at a time before any measurement
_HOLD_ANSWERS = 150  # answers before growing again, so that under 1 % of the calls are throttled
_HOLD_SECONDS = 1.0  # minimum before growing again
_MIN_ROUND = 20  # minimum number of answers in a mean
_QUEUED = 2.0  # times the usual latency: growth ends; about one round of calls is in the queue
_CONGESTED = 2.5  # times the usual latency: the estimate is lowered for a test at once
_TARGET = 1.5  # times the usual latency: the aim of a test, which still keeps the endpoint busy
_CHANGED = 1.25  # times slower with fewer calls: the endpoint has changed, the test is not valid
_HALF_LIFE = 60.0  # seconds: how long the latency of difficult tiles counts as usual
_NEGLIGIBLE = 0.005  # seconds: differences below are due to this process's own threads
_TIMED_OUT_FACTOR = 0.7  # by which the estimate is multiplied after a time-out


@dataclass(frozen=True, slots=True)
class CapacityEstimate:
    """What was learned about an endpoint; both values are above 0 and finite.

    Attributes:
        concurrency: Calls that it takes at a time.
        latency: Seconds of a call without a queue, the lowest mean over a round trip.
    """

    concurrency: float
    latency: float


class _Round:
    """Means over the answers of one round trip."""

    def __init__(self, size: int) -> None:
        self._size, self._count, self._seconds, self._calls = size, 0, 0.0, 0

    def add(self, seconds: float, calls: int) -> bool:
        """Count an answer; returns whether the round is complete."""
        self._seconds += seconds
        self._calls += calls
        self._count += 1
        return self._count >= self._size

    @property
    def latency(self) -> float:
        """Mean seconds of a call."""
        return self._seconds / self._count

    @property
    def calls(self) -> float:
        """Mean number of calls in flight when a call began, itself included."""
        return self._calls / self._count


class ConcurrencyEstimator:
    """An estimate of the calls that an endpoint takes at a time.

    It has no clock and no lock: callers pass the time, in seconds of any monotonic clock, and call
    it one at a time.

    Attributes:
        limit: Calls at a time, 1 or more.
    """

    def __init__(self, earlier: CapacityEstimate | None = None) -> None:
        """Start with a few calls, growing fast; or with an earlier estimate, growing by one.

        Without the latency of the earlier estimate, a queue that its calls cause would seem usual.
        """
        self.limit = max(1, int(earlier.concurrency)) if earlier else START
        self._step = 1 if earlier else START  # calls to gain in this round trip; 0 during a hold
        self._credit = 0.0  # fraction of a call gained so far
        self._left = self.limit  # answers to the end of this round trip
        self._answers = 0  # since the hold began
        self._hold_began = -inf
        self._round = _Round(max(_MIN_ROUND, self.limit) if earlier else START)
        self._lowered = (
            -inf
        )  # time of the last lowering; earlier calls do not count for the new limit
        self._test: _Round | None = None  # the slow round that led to the running test
        self._queued = False
        self._lowest_latency = earlier.latency if earlier else inf
        self._difficult = 0.0, 0.0  # latency found to be due to difficult tiles, and when

    @property
    def reach(self) -> int:
        """The limit that one more round trip could lead to."""
        return self.limit + self._step

    @property
    def estimate(self) -> CapacityEstimate | None:
        """What is known about the endpoint; None before the answers of one round trip."""
        known = self._lowest_latency < inf
        return CapacityEstimate(self.limit, self._lowest_latency) if known else None

    def answered(self, now: float, seconds: float, others: int, *, saturated: bool) -> None:
        """Learn from a call that was answered.

        Args:
            now: The time.
            seconds: Duration of the call.
            others: Other calls that were in flight when it began.
            saturated: Whether calls wait for this limit alone, not for another one.
        """
        self._answers += 1
        if now - seconds >= self._lowered and self._round.add(seconds, others + 1):
            self._judge(now, self._round)
        if self._test is not None:
            return
        held = self._answers >= _HOLD_ANSWERS and now - self._hold_began >= _HOLD_SECONDS
        if not self._step and held:
            self._end_hold(now)
        elif saturated and not self._queued:
            self._grow()

    def throttled(self, now: float, others: int) -> None:
        """Learn from a call that was throttled.

        Args:
            now: The time.
            others: Other calls that were in flight beside it.
        """
        self.limit = max(1, min(self.limit, others))
        self._hold(now)

    def timed_out(self, now: float, seconds: float) -> None:
        """Learn from a call that timed out; only the first one of a round trip counts.

        Args:
            now: The time.
            seconds: Duration of the call.
        """
        if now - seconds >= self._lowered:
            self._lower(now, self.limit * _TIMED_OUT_FACTOR)

    def _grow(self) -> None:
        """Add one answer's share of the step; double the step at the end of each round trip."""
        self._credit += self._step / self.limit
        while self._credit >= 1:
            self._credit -= 1
            self.limit += 1
        self._left -= 1
        if self._left <= 0:
            self._step = min(2 * self._step, self.limit)
            self._left = self.limit

    def _end_hold(self, now: float) -> None:
        """Grow again by one or, if calls seem to queue, test that."""
        if self._queued:
            self._begin_test(now, self._round)
        else:
            self._step, self._credit, self._left = 1, 0.0, self.limit

    def _judge(self, now: float, full: _Round) -> None:
        """Compare the latency of a complete round with the usual one, and end a running test."""
        test, self._test = self._test, None
        self._lowest_latency = min(self._lowest_latency, full.latency)
        difficult = test is not None and _no_faster(test, full)
        if test is not None and difficult:
            self.limit = max(self.limit, round(test.calls))
            changed = full.latency > _CHANGED * test.latency
            self._difficult = self._difficult if changed else (full.latency, now)
        slowness = full.latency / self._usual(now)
        self._queued = slowness > _QUEUED
        self._round = _Round(max(_MIN_ROUND, self.limit))
        if slowness > _CONGESTED and not difficult:
            self._begin_test(now, full)
        elif self._queued and self._step:
            self._hold(now)

    def _usual(self, now: float) -> float:
        """Latency without a queue, in seconds."""
        seconds, found = self._difficult
        weight: float = 0.5 ** ((now - found) / _HALF_LIFE)
        return max(_NEGLIGIBLE, self._lowest_latency, seconds * weight)

    def _begin_test(self, now: float, slow: _Round) -> None:
        """Lower the limit, to find out whether calls are faster with fewer at a time."""
        fewer = slow.calls * max(0.5, _TARGET * self._usual(now) / slow.latency)
        self._lower(now, fewer)
        self._test = slow

    def _lower(self, now: float, limit: float) -> None:
        self.limit = max(1, min(self.limit, int(limit)))
        self._lowered = now
        self._test = None
        self._round = _Round(max(_MIN_ROUND, self.limit))
        self._hold(now)

    def _hold(self, now: float) -> None:
        self._step, self._answers, self._hold_began = 0, 0, now


def _no_faster(before: _Round, after: _Round) -> bool:
    """Whether latency fell by less than half of the decrease expected if calls had queued."""
    return after.latency > before.latency * (1 + after.calls / before.calls) / 2
