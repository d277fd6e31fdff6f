"""What an endpoint takes at a time, found out from how its calls go.

It grows as TCP does: at first by one for each answered call, doubling in a round trip, so that an
overshoot is one or two calls. A throttled call shows a hard limit exactly: the calls that were in
flight beside it. That is held for a while, then tried again with steps that double while they work.

An endpoint that queues in place of throttling shows it in its latency: the mean over a round trip
is held against the lowest that was seen. Content makes calls slow too, so a slow round is put to a
trial: with fewer calls in flight a queue gets shorter (Little's law), and content does not.

Jacobson, "Congestion Avoidance and Control" (1988); Brakmo and Peterson, "TCP Vegas" (1995).
"""

from __future__ import annotations

from math import inf

START = 4  # calls at a time before anything is known
_PATIENCE = 150  # answers between looks for more: one throttled call in so many is under 1 %
_REST = 1.0  # seconds, at least, between them
_SAMPLE = 20  # answers that make a mean, at least
_QUEUED = 2.0  # times the usual latency: no growth; about one round of calls waits at the endpoint
_CONGESTED = 2.5  # times the usual latency: fewer calls, at once
_TARGET = 1.5  # times the usual latency that a trial aims at: still enough to keep it busy
_CHANGED = 1.25  # times slower with fewer calls: the endpoint changed, and the trial is void
_MEMORY = 60.0  # seconds, as a half-life, that slow content is remembered
_NEGLIGIBLE = 0.005  # seconds: differences between such latencies are our own threads'
_LATE = 0.7  # of the calls are left when one timed out


class _Round:
    """Means over the answers of a round trip."""

    def __init__(self, size: int) -> None:
        self._size, self._count, self._seconds, self._calls = size, 0, 0.0, 0

    def add(self, seconds: float, calls: int) -> bool:
        """Count an answer; whether the round is full."""
        self._seconds += seconds
        self._calls += calls
        self._count += 1
        return self._count >= self._size

    @property
    def latency(self) -> float:
        """Seconds that a call took."""
        return self._seconds / self._count

    @property
    def calls(self) -> float:
        """Calls in flight when a call began, itself included."""
        return self._calls / self._count


class ConcurrencyEstimator:
    """The number of calls that an endpoint is thought to take at a time.

    It knows no clock and no threads: who calls tells the time, in seconds, and calls in turn.

    Attributes:
        limit: Calls at a time, 1 or more.
    """

    def __init__(self) -> None:
        """Begin with a few calls, growing."""
        self.limit = START
        self._step = START  # calls to gain in this round trip; 0 while it rests
        self._credit = 0.0  # part of a call gained
        self._left = START  # answers to the end of this round trip
        self._answers = 0  # since the rest began
        self._rested = -inf  # when the rest began
        self._round = _Round(START)
        self._cut = -inf  # when the limit fell for latency: calls begun earlier tell nothing of it
        self._before: _Round | None = None  # the trial, if one is on
        self._queued = False
        self._lowest = inf  # latency
        self._content = 0.0, 0.0  # latency that was shown to be the content's, and when

    @property
    def reach(self) -> int:
        """Calls at a time that it would come to within a round trip."""
        return self.limit + self._step

    def answered(self, now: float, seconds: float, others: int, *, saturated: bool) -> None:
        """A call was answered.

        Args:
            now: When.
            seconds: How long it took.
            others: Calls that were in flight when it began.
            saturated: Whether the limit, and nothing else, keeps further calls waiting.
        """
        self._answers += 1
        if now - seconds >= self._cut and self._round.add(seconds, others + 1):
            self._judge(now, self._round)
        if self._before is not None:
            return
        if not self._step and self._answers >= _PATIENCE and now - self._rested >= _REST:
            self._look_further(now)
        elif saturated and not self._queued:
            self._grow()

    def throttled(self, now: float, others: int) -> None:
        """A call was refused for there being too many.

        Args:
            now: When.
            others: Calls that were in flight beside it.
        """
        self.limit = max(1, min(self.limit, others))
        self._rest(now)

    def timed_out(self, now: float, seconds: float) -> None:
        """A call took too long; of those of one round trip, the first one counts."""
        if now - seconds >= self._cut:
            self._reduce(now, self.limit * _LATE)

    def _grow(self) -> None:
        """Gain this answer's part of the round's step; a round without trouble doubles the step."""
        self._credit += self._step / self.limit
        while self._credit >= 1:
            self._credit -= 1
            self.limit += 1
        self._left -= 1
        if self._left <= 0:
            self._step = min(2 * self._step, self.limit)
            self._left = self.limit

    def _look_further(self, now: float) -> None:
        """End a rest: with a first step, or with a trial where calls may be queueing."""
        if self._queued:
            self._try_fewer(now, self._round)
        else:
            self._step, self._credit, self._left = 1, 0.0, self.limit

    def _judge(self, now: float, full: _Round) -> None:
        """Hold a round's latency against the usual one."""
        before, self._before = self._before, None
        self._lowest = min(self._lowest, full.latency)
        content = before is not None and _no_faster(before, full)
        if before is not None and content:
            self.limit = max(self.limit, round(before.calls))
            void = full.latency > _CHANGED * before.latency
            self._content = self._content if void else (full.latency, now)
        slowness = full.latency / self._usual(now)
        self._queued = slowness > _QUEUED
        self._round = _Round(max(_SAMPLE, self.limit))
        if slowness > _CONGESTED and not content:
            self._try_fewer(now, full)
        elif self._queued and self._step:
            self._rest(now)

    def _usual(self, now: float) -> float:
        """Latency without a queue."""
        seconds, shown = self._content
        remembered: float = 0.5 ** ((now - shown) / _MEMORY)
        return max(_NEGLIGIBLE, self._lowest, seconds * remembered)

    def _try_fewer(self, now: float, slow: _Round) -> None:
        """See whether fewer calls are faster."""
        fewer = slow.calls * max(0.5, _TARGET * self._usual(now) / slow.latency)
        self._reduce(now, fewer)
        self._before = slow

    def _reduce(self, now: float, limit: float) -> None:
        self.limit = max(1, min(self.limit, int(limit)))
        self._cut = now
        self._before = None
        self._round = _Round(max(_SAMPLE, self.limit))
        self._rest(now)

    def _rest(self, now: float) -> None:
        self._step, self._answers, self._rested = 0, 0, now


def _no_faster(before: _Round, after: _Round) -> bool:
    """Whether latency fell by less than half of what it would if calls had queued."""
    return after.latency > before.latency * (1 + after.calls / before.calls) / 2
