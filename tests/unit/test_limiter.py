"""Permits to call an endpoint: in order, never above the limit, in the end for every thread."""

from __future__ import annotations

import random
import signal
import time
from collections import deque
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tasks.errors import EndpointTimeoutError, PermanentError, ThrottledError, TransientError
from tasks.inference.concurrency_estimator import CapacityEstimate, ConcurrencyEstimator
from tasks.inference.limiter import Limiter, LimiterClosedError

TIMEOUT = 60.0  # seconds
OUTCOMES = [
    None,
    ThrottledError("429"),
    EndpointTimeoutError("late"),
    TransientError("500"),
    PermanentError("400"),
]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, "the condition stayed false"
        time.sleep(0.0005)


def fail(outcome: Exception | None) -> None:
    if outcome is not None:
        raise outcome


class Call:
    """A thread that takes a permit, and gives it back with a given outcome."""

    def __init__(self, limiter: Limiter) -> None:
        self.let_in, self.turned_away, self._end = Event(), Event(), Event()
        self._outcome: Exception | None = None
        self._permit = limiter.permit()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()
        until(lambda: self._permit.gate is not None or self.let_in.is_set())

    def end(self, outcome: Exception | None) -> None:
        self._outcome = outcome
        self._end.set()
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            with self._permit:
                self.let_in.set()
                self._end.wait()
                fail(self._outcome)
        except LimiterClosedError:
            self.turned_away.set()
        except Exception as error:
            assert error is self._outcome  # noqa: PT017 - the given one


class Permits(RuleBasedStateMachine):
    """A limiter beside the simplest model of one: a queue and a count."""

    def __init__(self) -> None:
        super().__init__()
        self.estimator = ConcurrencyEstimator()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tasks.inference.limiter.ConcurrencyEstimator", lambda _: self.estimator)
            self.limiter = Limiter(3)
        self.under_way: list[Call] = []
        self.queue: deque[Call] = deque()
        self.closed = False

    def check(self) -> None:
        """As many are let in as there is room for, in the order in which they came."""
        room = min(self.estimator.limit, self.limiter.max_in_flight)
        while self.queue and len(self.under_way) < room:
            call = self.queue.popleft()
            assert call.let_in.wait(TIMEOUT)
            self.under_way.append(call)
        assert self.limiter.in_flight == len(self.under_way)
        assert not any(call.let_in.is_set() for call in self.queue)

    @precondition(lambda self: not self.closed)
    @rule()
    def arrive(self) -> None:
        self.queue.append(Call(self.limiter))
        self.check()

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 100), outcome=st.sampled_from(OUTCOMES))
    def end(self, which: int, outcome: Exception | None) -> None:
        self.under_way.pop(which % len(self.under_way)).end(outcome)
        self.check()

    @rule(most=st.integers(0, 8))
    def allow(self, most: int) -> None:
        self.limiter.max_in_flight = most
        self.check()

    @precondition(lambda self: len(self.under_way) > 3)
    @rule()
    def close(self) -> None:
        self.closed = True
        self.limiter.close()
        for call in self.queue:
            assert call.turned_away.wait(TIMEOUT)
        self.queue.clear()
        with pytest.raises(LimiterClosedError, match="ending"), self.limiter.permit():
            pass

    @invariant()
    def demand_is_between_none_and_all_calls(self) -> None:
        assert 0 <= self.limiter.demand <= self.estimator.reach

    def teardown(self) -> None:
        self.limiter.max_in_flight = 100
        self.check()
        while self.under_way:
            self.end(0, None)
        assert not self.queue
        assert self.limiter.in_flight == 0


TestPermits = Permits.TestCase
TestPermits.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_hundred_threads_all_get_permits_whatever_the_limits() -> None:
    limiter, served, lock, ended = Limiter(5), [0], Lock(), Event()

    def call(number: int) -> None:
        dice = random.Random(number)
        for _ in range(100):
            try:
                with limiter.permit():
                    fail(dice.choice([*OUTCOMES, *[None] * 20]))
            except (ThrottledError, TransientError, PermanentError):
                pass
            with lock:
                served[0] += 1

    def change() -> None:
        dice = random.Random(0)
        while not ended.wait(0.001):
            limiter.max_in_flight = dice.randrange(10)
        limiter.max_in_flight = 1

    changes = Thread(target=change)
    threads = [Thread(target=call, args=(number,), daemon=True) for number in range(100)]
    for thread in [changes, *threads]:
        thread.start()
    until(lambda: served[0] > 5000)
    ended.set()
    for thread in [changes, *threads]:
        thread.join(TIMEOUT)
    assert served[0] == 100 * 100
    assert limiter.in_flight == 0


def test_an_interrupted_thread_leaves_the_queue() -> None:
    class InterruptedCallError(Exception):
        pass

    def interrupt(*_: Any) -> None:
        raise InterruptedCallError

    limiter = Limiter(1)
    first = Call(limiter)
    assert first.let_in.wait(TIMEOUT)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(InterruptedCallError), limiter.permit():
            pytest.fail("a permit was granted beyond the limit")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    first.end(None)
    second = Call(limiter)
    assert second.let_in.wait(TIMEOUT)
    assert limiter.in_flight == 1
    second.end(None)


def test_an_exception_gives_the_permit_back() -> None:
    limiter = Limiter(10)
    with pytest.raises(KeyError), limiter.permit():
        raise KeyError
    assert limiter.in_flight == 0


def test_demand_grows_beyond_what_max_in_flight_allows() -> None:
    limiter = Limiter(2)
    calls = [Call(limiter) for _ in range(20)]
    for call in calls[:10]:
        assert call.let_in.wait(TIMEOUT)
        call.end(None)
    assert limiter.demand > limiter.max_in_flight
    limiter.max_in_flight = 100
    for call in calls[10:]:
        assert call.let_in.wait(TIMEOUT)
        call.end(None)


def test_calls_begin_with_an_earlier_estimate_within_what_is_allowed() -> None:
    limiter = Limiter(0, CapacityEstimate(10, 0.05))
    assert limiter.demand == 10
    calls = [Call(limiter) for _ in range(20)]
    assert limiter.in_flight == 0
    limiter.max_in_flight = 6
    assert limiter.in_flight == 6
    limiter.max_in_flight = 100
    assert limiter.in_flight == 10
    until(lambda: sum(call.let_in.is_set() for call in calls) == 10)
    first, *_ = [call for call in calls if call.let_in.is_set()]
    first.end(ThrottledError("429"))
    assert limiter.in_flight == 9
    assert limiter.estimate == CapacityEstimate(9, 0.05)
    limiter.close()
    for call in calls:
        call.end(None)


def test_demand_of_a_throttled_endpoint_is_what_it_takes() -> None:
    limiter = Limiter(100)
    calls = [Call(limiter) for _ in range(20)]
    until(lambda: sum(call.let_in.is_set() for call in calls) == 4)
    one, two, *_ = [call for call in calls if call.let_in.is_set()]
    one.end(ThrottledError("429"))
    two.end(ThrottledError("429"))
    assert limiter.demand == limiter.in_flight == 2
    limiter.close()
    for call in calls:
        call.end(None)


def test_demand_falls_to_zero_without_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.inference.limiter._DEMAND_SECONDS", 0.02)
    limiter = Limiter(10)
    with limiter.permit():
        pass
    until(lambda: limiter.demand == 0)
    call = Call(limiter)
    assert call.let_in.wait(TIMEOUT)
    assert limiter.demand == 1
    call.end(None)
