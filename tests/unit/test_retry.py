"""Patience: how often a tile's calls are made, how long is waited, when an endpoint is given up."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import (
    AnswerError,
    EndpointError,
    PermanentError,
    SwathError,
    ThrottledError,
    TransientError,
    UnreachableError,
)
from tasks.inference.retry import CircuitBreaker, RetryBudget, RetryState


class Clock:
    """Time that passes as it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock() -> Iterator[Clock]:
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr("tasks.inference.retry.time.monotonic", clock)
        yield clock


def tries(attempts: int = 4, patience: float = 60.0, tiles: int = 1000) -> RetryState:
    return RetryState(attempts, patience, RetryBudget(tiles))


def waits_of(errors: list[EndpointError], attempts: int = 99) -> list[float]:
    tile = tries(attempts)
    waits = []
    for error in errors:
        tile.begin()
        waits.append(tile.wait(error))
    return waits


@given(st.integers(1, 12))
def test_waits_stay_below_a_bound_that_grows_up_to_20_seconds(failures: int) -> None:
    waits = waits_of([TransientError("busy")] * failures)
    bounds = [min(20.0, 0.5 * 4**number) for number in range(failures)]
    assert all(0 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))


def test_waits_are_jittered_over_the_whole_of_their_bound() -> None:
    firsts = [waits_of([TransientError("busy")])[0] for _ in range(400)]
    assert min(firsts) < 0.1
    assert max(firsts) > 0.4
    assert 0.2 < sum(firsts) / len(firsts) < 0.3


@given(st.floats(0, 1e6) | st.just(float("inf")))
def test_what_the_endpoint_asks_for_is_the_least_wait_up_to_two_minutes(asked: float) -> None:
    (wait,) = waits_of([ThrottledError("busy", asked)])
    assert min(asked, 120.0) <= wait <= min(asked, 120.0) + 0.5


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_the_last_error_is_told_once_the_attempts_are_spent(attempts: int) -> None:
    tile = tries(attempts)
    for number in range(1, attempts):
        tile.begin()
        tile.note(error := TransientError(f"call {number}"))
        tile.wait(error)
    tile.begin()
    tile.note(TransientError(f"call {attempts}"))
    with pytest.raises(TransientError, match=f"call {attempts}"):
        tile.wait(TransientError(f"call {attempts}"))
    assert tile.made == attempts
    assert tile.failed == [f"TransientError after 0.0 s: call {n}" for n in range(1, attempts + 1)]


def test_what_will_never_answer_is_called_once() -> None:
    with pytest.raises(PermanentError):
        tries().wait(PermanentError("no such model"))


def test_throttled_calls_do_not_count_but_have_an_end(clock: Clock) -> None:
    tile = tries(attempts=2)
    for _ in range(30):
        tile.wait(ThrottledError("busy"))
        clock.now += 5
    clock.now += 31
    with pytest.raises(ThrottledError):
        tile.wait(ThrottledError("busy"))


def test_failures_of_an_endpoint_that_is_down_for_all_do_not_count(clock: Clock) -> None:
    tile = tries(attempts=1)
    for _ in range(10):
        tile.wait(UnreachableError("down"), counts=False)
    clock.now += 61
    with pytest.raises(UnreachableError):
        tile.wait(UnreachableError("down"), counts=False)


def test_a_tile_that_hangs_is_given_up_before_its_attempts_are_spent(clock: Clock) -> None:
    tile = tries(attempts=99)
    clock.now += 60
    tile.wait(TransientError("too slow"))
    clock.now += 61
    with pytest.raises(TransientError):
        tile.wait(TransientError("too slow"))


def test_a_region_has_a_budget_of_retries() -> None:
    budget = RetryBudget(tiles=3)
    for _ in range(103):
        RetryState(4, 60.0, budget).wait(TransientError("flaky"))
    with pytest.raises(TransientError, match="flaky; the 103 retries of this region are spent"):
        RetryState(4, 60.0, budget).wait(TransientError("flaky"))


def test_a_tile_asked_about_alone_begins_anew_but_remembers() -> None:
    together = tries(attempts=1)
    together.begin()
    together.note(TransientError("out of memory"))
    with pytest.raises(TransientError):
        together.wait(TransientError("out of memory"))
    alone = together.anew()
    alone.begin()
    assert alone.made == 2
    assert alone.failed == ["TransientError after 0.0 s: out of memory"]
    assert together.made == 1


def fail(outage: CircuitBreaker, tiles: range, error: SwathError, in_flight: int = 1) -> None:
    for tile in tiles:
        outage.failed(tile, error, in_flight)


def test_one_poisonous_tile_is_no_outage(clock: Clock) -> None:
    outage = CircuitBreaker(60.0)
    for _ in range(50):
        outage.failed(7, UnreachableError("it crashes"), 1)
        clock.now += 10
    assert not outage.suspected
    assert outage.reason == ""


def test_silence_to_many_tiles_is_suspected_and_after_a_while_an_outage(clock: Clock) -> None:
    outage = CircuitBreaker(60.0)
    fail(outage, range(4), UnreachableError("connection refused"))
    assert not outage.suspected
    fail(outage, range(5), UnreachableError("connection refused"))
    assert outage.suspected
    clock.now += 60
    outage.failed(0, UnreachableError("connection refused"), 1)
    assert outage.reason == ""
    clock.now += 1
    outage.failed(0, UnreachableError("connection refused"), 1)
    assert outage.reason == (
        "the endpoint was given up after 61 s without an answer; at last: connection refused"
    )


def test_an_answer_ends_every_suspicion(clock: Clock) -> None:
    outage = CircuitBreaker(60.0)
    fail(outage, range(5), UnreachableError("down"))
    outage.answered()
    assert not outage.suspected
    clock.now += 61
    fail(outage, range(4), UnreachableError("down"))
    assert not outage.suspected
    assert outage.reason == ""


def test_as_many_failures_as_calls_in_flight_may_be_of_one_moment() -> None:
    outage = CircuitBreaker(60.0)
    fail(outage, range(63), UnreachableError("connection reset"), in_flight=64)
    assert not outage.suspected
    outage.failed(63, UnreachableError("connection reset"), 64)
    assert outage.suspected


@pytest.mark.parametrize(
    "error", [PermanentError("HTTP 413"), AnswerError("not JSON"), TransientError("HTTP 500")]
)
def test_refusals_are_signs_of_life_but_not_for_ever(clock: Clock, error: SwathError) -> None:
    outage = CircuitBreaker(60.0)
    fail(outage, range(49), error)
    clock.now += 61
    fail(outage, range(49), error)
    assert outage.reason == ""
    outage.failed(49, error, 1)
    assert not outage.suspected
    assert "without an answer" in outage.reason


def test_an_endpoint_that_only_throttles_is_given_three_times_the_patience(clock: Clock) -> None:
    outage = CircuitBreaker(60.0)
    fail(outage, range(9), ThrottledError("busy"))
    clock.now += 180
    outage.failed(0, ThrottledError("busy"), 1)
    assert outage.reason == ""
    assert not outage.suspected
    clock.now += 1
    outage.failed(0, ThrottledError("busy"), 1)
    assert "181 s without an answer" in outage.reason


def test_probes_come_at_growing_pauses() -> None:
    outage = CircuitBreaker(60.0)
    fail(outage, range(5), UnreachableError("down"))
    assert [outage.pause() for _ in range(6)] == [0.5, 1, 2, 4, 5, 5]
    outage.failed(9, AnswerError("it lives"), 1)
    assert not outage.suspected
