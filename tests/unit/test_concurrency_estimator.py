"""How a limit is found: endpoints are simulated, so that minutes pass in milliseconds."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.inference.concurrency_estimator import START, CapacityEstimate, ConcurrencyEstimator

TRAVEL = 0.001  # seconds from the endpoint to the caller and back
Latency = Callable[[float, Random], float]


def short(now: float, random: Random) -> float:
    return random.uniform(0.030, 0.080)


def by_content(now: float, random: Random) -> float:
    return random.uniform(0.020, 0.200)


def in_stretches(now: float, random: Random) -> float:
    """Open sea for five seconds, then a port for five."""
    return random.uniform(0.01, 0.03) if now % 10 < 5 else random.uniform(0.1, 0.3)


def after_a_cold_start(now: float, random: Random) -> float:
    return 5.0 if now < 5 else random.uniform(0.030, 0.080)


@dataclass
class Measured:
    busy: float = 0.0
    available: float = 0.0
    answered: int = 0
    throttled: int = 0
    waited: float = 0.0

    @property
    def used(self) -> float:
        return self.busy / self.available

    @property
    def refused(self) -> float:
        return self.throttled / max(1, self.answered + self.throttled)

    @property
    def slowness(self) -> float:
        """Mean latency over that of an idle endpoint of `short`."""
        return 1 + self.waited / self.answered / 0.055


class World:
    """Callers with a `ConcurrencyEstimator` each, and one endpoint that all of them call."""

    def __init__(
        self,
        limit: int,
        latency: Latency = short,
        *,
        callers: int = 1,
        queues: bool = False,
        demand: int = 1000,
        earlier: CapacityEstimate | None = None,
    ) -> None:
        self.limit, self.latency, self.queues, self.demand = limit, latency, queues, demand
        self.estimators = [ConcurrencyEstimator(earlier) for _ in range(callers)]
        self.in_flight = [0] * callers
        self.now = 0.0
        self._at_work = 0
        self._queue: deque[tuple[int, float, int]] = deque()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._random = Random(1)
        self._measured = Measured()

    def run(self, seconds: float) -> Measured:
        """What was measured in these seconds."""
        self._measured, end = Measured(), self.now + seconds
        self._call_all()
        while self._events and self._events[0][0] <= end:
            moment, _, event = heapq.heappop(self._events)
            self._pass(moment)
            event()
        self._pass(end)
        return self._measured

    def _pass(self, moment: float) -> None:
        passed = moment - self.now
        self._measured.busy += min(self._at_work, self.limit) * passed
        self._measured.available += self.limit * passed
        self._measured.waited += len(self._queue) * passed
        self.now = moment

    def _later(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), event))

    def _call_all(self) -> None:
        for caller, estimator in enumerate(self.estimators):
            while self.in_flight[caller] < min(estimator.limit, self.demand):
                self._call(caller)

    def _call(self, caller: int) -> None:
        began, others = self.now, self.in_flight[caller]
        self.in_flight[caller] += 1
        self._later(TRAVEL / 2, lambda: self._arrive(caller, began, others))

    def _arrive(self, caller: int, began: float, others: int) -> None:
        if self._at_work < self.limit:
            self._work(caller, began, others)
        elif self.queues:
            self._queue.append((caller, began, others))
        else:
            self._later(TRAVEL / 2, lambda: self._throttled(caller, others))

    def _work(self, caller: int, began: float, others: int) -> None:
        self._at_work += 1
        self._later(self.latency(self.now, self._random), lambda: self._done(caller, began, others))

    def _done(self, caller: int, began: float, others: int) -> None:
        self._at_work -= 1
        if self._queue and self._at_work < self.limit:
            self._work(*self._queue.popleft())
        self._later(TRAVEL / 2, lambda: self._answered(caller, began, others))

    def _answered(self, caller: int, began: float, others: int) -> None:
        self._measured.answered += 1
        self.in_flight[caller] -= 1
        estimator = self.estimators[caller]
        saturated = self.demand > estimator.limit
        estimator.answered(self.now, self.now - began, others, saturated=saturated)
        self._call_all()

    def _throttled(self, caller: int, others: int) -> None:
        self._measured.throttled += 1
        self.in_flight[caller] -= 1
        least = 0 if self.demand > self.in_flight[caller] else others
        self.estimators[caller].throttled(self.now, max(least, self.in_flight[caller]))
        self._call_all()


LIMITS = [1, 4, 10, 32, 100]


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize(
    ("latency", "share"),
    [(short, 0.95), (by_content, 0.95), (in_stretches, 0.92)],  # of 20 ms, travel is 5 %
)
def test_a_hard_limit_is_found_in_seconds_and_used(
    limit: int, latency: Latency, share: float
) -> None:
    world = World(limit, latency)
    world.run(3)
    settled = world.run(60)
    assert settled.used > share
    assert settled.refused < 0.01


@pytest.mark.parametrize("limit", LIMITS[1:])
@pytest.mark.parametrize("factor", [0.5, 2])
def test_a_limit_that_changes_is_found_again_in_seconds(limit: int, factor: float) -> None:
    world = World(limit)
    world.run(10)
    world.limit = int(limit * factor)
    world.run(3.5)
    settled = world.run(20)
    assert settled.used > 0.95
    assert settled.refused < 0.01


@pytest.mark.parametrize("limit", LIMITS[1:])
def test_a_halved_limit_costs_no_more_refusals_than_calls_too_many(limit: int) -> None:
    world = World(limit)
    world.run(10)
    world.limit = limit // 2
    assert world.run(0.2).throttled <= limit - limit // 2 + 2
    assert world.estimators[0].limit == limit // 2


@pytest.mark.parametrize("limit", LIMITS[1:])
def test_two_callers_of_one_endpoint_use_it_fully_and_are_rarely_throttled(limit: int) -> None:
    world = World(limit, callers=2)
    world.run(3)
    settled = world.run(60)
    assert settled.used > 0.95
    assert settled.refused < 0.01


@pytest.mark.parametrize("limit", LIMITS[1:])
def test_an_endpoint_that_queues_is_kept_busy_with_a_short_queue(limit: int) -> None:
    world = World(limit, queues=True)
    world.run(5)
    settled = world.run(60)
    assert settled.used > 0.95
    assert settled.slowness < 2.5


def test_a_queue_before_an_endpoint_that_slows_down_gets_shorter() -> None:
    world = World(32, queues=True)
    world.run(10)
    world.limit = 8
    world.run(10)
    settled = world.run(30)
    assert settled.used > 0.95
    assert world.estimators[0].limit < 8 * 4


def learned(limit: int, *, queues: bool = False, earlier: CapacityEstimate | None = None) -> World:
    """A world after ten seconds with one caller."""
    world = World(limit, queues=queues, earlier=earlier)
    world.run(10)
    return world


@pytest.mark.parametrize("limit", LIMITS)
def test_a_later_caller_uses_the_endpoint_from_its_first_second(limit: int) -> None:
    world = World(limit, earlier=learned(limit).estimators[0].estimate)
    first = world.run(1)
    assert first.used > 0.9
    assert first.throttled <= 4


def test_a_later_caller_begins_where_the_earlier_one_ended() -> None:
    found = learned(32).estimators[0]
    assert found.estimate is not None
    later = ConcurrencyEstimator(found.estimate)
    assert later.limit == found.limit > START
    assert later.estimate == found.estimate  # also if it makes no call


def test_callers_that_begin_with_shares_of_what_one_learned_are_rarely_throttled() -> None:
    found = learned(32).estimators[0].estimate
    assert found is not None
    share = CapacityEstimate(found.concurrency / 8, found.latency)
    first = World(32, callers=8, earlier=share).run(1)
    assert first.used > 0.95
    assert first.refused < 0.03


def test_many_callers_that_begin_with_too_much_back_off_at_once() -> None:
    world = World(32, callers=8, demand=8, earlier=learned(32).estimators[0].estimate)
    world.run(0.5)
    assert sum(estimator.limit for estimator in world.estimators) < 2 * 32
    world.run(3)
    settled = world.run(20)
    assert settled.used > 0.95
    assert settled.refused < 0.02


def test_a_queue_does_not_grow_from_caller_to_caller() -> None:
    estimate = None
    for _ in range(8):
        world = learned(10, queues=True, earlier=estimate)
        estimate = world.estimators[0].estimate
    assert world.run(20).slowness < 2.5


def test_an_endpoint_that_became_slower_is_found_to_be_so() -> None:
    world = World(32, lambda *_: 1.0, demand=64, earlier=CapacityEstimate(32, 0.05))
    world.run(60)
    assert world.run(60).used > 0.95


@pytest.mark.parametrize(("earlier", "limit"), [(0.2, 1), (1.0, 1), (7.9, 7)])
def test_an_earlier_estimate_is_a_whole_number_of_calls(earlier: float, limit: int) -> None:
    assert ConcurrencyEstimator(CapacityEstimate(earlier, 0.05)).limit == limit


def test_nothing_is_known_before_the_first_round_trip() -> None:
    estimator = ConcurrencyEstimator()
    for _ in range(START - 1):
        estimator.answered(1.0, 0.05, 3, saturated=True)
    assert estimator.estimate is None
    estimator.answered(1.0, 0.05, 3, saturated=True)
    assert estimator.estimate == CapacityEstimate(estimator.limit, 0.05)


@pytest.mark.parametrize("latency", [by_content, in_stretches, after_a_cold_start])
def test_difficult_tiles_and_a_cold_start_leave_the_endpoint_busy(latency: Latency) -> None:
    world = World(1000, latency, demand=64)
    world.run(15)
    settled = world.run(60)
    assert settled.busy / 60 > 0.95 * 64


def test_the_limit_does_not_grow_while_there_are_fewer_calls_than_it_allows() -> None:
    world = World(1000, demand=3)
    world.run(60)
    assert world.estimators[0].limit == START


def test_a_throttled_endpoint_is_still_called_once_at_a_time() -> None:
    estimator = ConcurrencyEstimator()
    for others in (9, 2, 0, 0):
        estimator.throttled(1.0, others)
    assert estimator.limit == 1


def test_time_outs_of_one_round_trip_count_once() -> None:
    estimator = ConcurrencyEstimator()
    for moment in range(100):
        estimator.answered(moment / 10, 0.05, 3, saturated=True)
    before = estimator.limit
    for _ in range(10):
        estimator.timed_out(20.0, 5.0)
    assert before > estimator.limit >= before // 2
    estimator.timed_out(30.0, 5.0)
    assert estimator.limit < before // 1.4


Event = tuple[str, float, int]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["answered", "idle", "throttled", "timed out"]),
            st.floats(1e-4, 100),
            st.integers(0, 1000),
        ),
        max_size=400,
    )
)
def test_the_limit_is_never_below_one_and_grows_by_one_an_answer_at_most(
    events: list[Event],
) -> None:
    estimator, now = ConcurrencyEstimator(), 0.0
    answers = 0
    for kind, seconds, others in events:
        now += seconds
        before = estimator.limit
        match kind:
            case "answered" | "idle":
                estimator.answered(now, seconds, others, saturated=kind == "answered")
                answers += 1
            case "throttled":
                estimator.throttled(now, others)
                assert estimator.limit <= before
            case _:
                estimator.timed_out(now, seconds)
                assert estimator.limit <= before
        assert 1 <= estimator.limit <= estimator.reach <= 2 * estimator.limit
    assert estimator.limit <= START + answers + max((others for *_, others in events), default=0)
