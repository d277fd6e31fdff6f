"""Retries: how often a tile is tried, how long the delays are, when the circuit breaker opens."""

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


def retry_state(attempts: int = 4, retry_seconds: float = 60.0, tiles: int = 1000) -> RetryState:
    return RetryState(attempts, retry_seconds, RetryBudget(tiles))


def waits_of(errors: list[EndpointError], attempts: int = 99) -> list[float]:
    tile = retry_state(attempts)
    waits = []
    for error in errors:
        tile.begin_call()
        waits.append(tile.delay(error))
    return waits


@given(st.integers(1, 12))
def test_delays_stay_below_a_bound_that_grows_up_to_20_seconds(failures: int) -> None:
    waits = waits_of([TransientError("busy")] * failures)
    bounds = [min(20.0, 0.5 * 4**number) for number in range(failures)]
    assert all(0 <= wait <= bound for wait, bound in zip(waits, bounds, strict=True))


def test_delays_are_jittered_from_zero_to_their_bound() -> None:
    firsts = [waits_of([TransientError("busy")])[0] for _ in range(400)]
    assert min(firsts) < 0.1
    assert max(firsts) > 0.4
    assert 0.2 < sum(firsts) / len(firsts) < 0.3


@given(st.floats(0, 1e6) | st.just(float("inf")))
def test_retry_after_is_the_shortest_delay_up_to_two_minutes(asked: float) -> None:
    (wait,) = waits_of([ThrottledError("busy", asked)])
    assert min(asked, 120.0) <= wait <= min(asked, 120.0) + 0.5


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_the_last_error_is_raised_once_the_attempts_are_spent(attempts: int) -> None:
    tile = retry_state(attempts)
    for number in range(1, attempts):
        tile.begin_call()
        tile.record(error := TransientError(f"call {number}"))
        tile.delay(error)
    tile.begin_call()
    tile.record(TransientError(f"call {attempts}"))
    with pytest.raises(TransientError, match=f"call {attempts}"):
        tile.delay(TransientError(f"call {attempts}"))
    assert tile.calls == attempts
    assert tile.failures == [
        f"TransientError after 0.0 s: call {n}" for n in range(1, attempts + 1)
    ]


def test_a_permanent_error_is_not_retried() -> None:
    with pytest.raises(PermanentError):
        retry_state().delay(PermanentError("no such model"))


def test_throttled_calls_do_not_count_but_end_after_three_times_the_seconds(clock: Clock) -> None:
    tile = retry_state(attempts=2)
    for _ in range(30):
        tile.delay(ThrottledError("busy"))
        clock.now += 5
    clock.now += 31
    with pytest.raises(ThrottledError):
        tile.delay(ThrottledError("busy"))


def test_failures_do_not_count_as_attempts_while_the_endpoint_is_down(clock: Clock) -> None:
    tile = retry_state(attempts=1)
    for _ in range(10):
        tile.delay(UnreachableError("down"), counts=False)
    clock.now += 61
    with pytest.raises(UnreachableError):
        tile.delay(UnreachableError("down"), counts=False)


def test_attempts_are_not_limited_while_no_other_tile_is_answered(clock: Clock) -> None:
    tile = retry_state(attempts=1, tiles=0)
    for _ in range(200):
        tile.delay(TransientError("HTTP 500"), others_answered=False)
    with pytest.raises(TransientError):
        tile.delay(TransientError("HTTP 500"))
    clock.now += 61
    with pytest.raises(TransientError):
        tile.delay(TransientError("HTTP 500"), others_answered=False)


def test_calls_that_found_nobody_listening_are_no_attempts(clock: Clock) -> None:
    tile = retry_state(attempts=1)
    for _ in range(50):
        tile.delay(UnreachableError("refused", connected=False))
    clock.now += 61
    with pytest.raises(UnreachableError):
        tile.delay(UnreachableError("refused", connected=False))


def test_whether_others_are_answered_is_known_from_answers(clock: Clock) -> None:
    breaker = CircuitBreaker(60.0)
    failing_since = clock.now
    for error in (TransientError("HTTP 500"), UnreachableError("reset")):
        assert not breaker.answers_others(error, failing_since)
    breaker.record_answer()
    clock.now += 1
    for error in (TransientError("HTTP 500"), UnreachableError("reset")):
        assert breaker.answers_others(error, failing_since)
    assert breaker.answers_others(TransientError("HTTP 500"), clock.now)
    assert not breaker.answers_others(UnreachableError("reset"), clock.now)


def test_a_tile_that_times_out_fails_before_its_attempts_are_spent(clock: Clock) -> None:
    tile = retry_state(attempts=99)
    clock.now += 60
    tile.delay(TransientError("too slow"))
    clock.now += 61
    with pytest.raises(TransientError):
        tile.delay(TransientError("too slow"))


def test_a_region_has_a_budget_of_retries() -> None:
    budget = RetryBudget(tiles=3)
    for _ in range(103):
        RetryState(4, 60.0, budget).delay(TransientError("flaky"))
    with pytest.raises(TransientError, match="flaky; the 103 retries of this region are spent"):
        RetryState(4, 60.0, budget).delay(TransientError("flaky"))


def test_a_tile_in_a_call_of_its_own_has_fresh_attempts_and_the_same_failures() -> None:
    together = retry_state(attempts=1)
    together.begin_call()
    together.record(TransientError("out of memory"))
    with pytest.raises(TransientError):
        together.delay(TransientError("out of memory"))
    alone = together.with_fresh_attempts()
    alone.begin_call()
    assert alone.calls == 2
    assert alone.failures == ["TransientError after 0.0 s: out of memory"]
    assert together.calls == 1


def fail(breaker: CircuitBreaker, tiles: range, error: SwathError, in_flight: int = 1) -> None:
    for tile in tiles:
        breaker.record_failure(tile, error, in_flight)


def test_one_tile_that_always_fails_does_not_open_the_breaker(clock: Clock) -> None:
    breaker = CircuitBreaker(60.0)
    for _ in range(50):
        breaker.record_failure(7, UnreachableError("it crashes"), 1)
        clock.now += 10
    assert not breaker.half_open
    assert breaker.reason == ""


def test_many_tiles_without_a_reply_half_open_the_breaker_and_after_a_while_open_it(
    clock: Clock,
) -> None:
    breaker = CircuitBreaker(60.0)
    fail(breaker, range(4), UnreachableError("connection refused"))
    assert not breaker.half_open
    fail(breaker, range(5), UnreachableError("connection refused"))
    assert breaker.half_open
    clock.now += 60
    breaker.record_failure(0, UnreachableError("connection refused"), 1)
    assert breaker.reason == ""
    clock.now += 1
    breaker.record_failure(0, UnreachableError("connection refused"), 1)
    assert breaker.reason == (
        "the endpoint was given up after 61 s without an answer; the last error: connection refused"
    )


def test_an_answer_closes_the_breaker(clock: Clock) -> None:
    breaker = CircuitBreaker(60.0)
    fail(breaker, range(5), UnreachableError("down"))
    breaker.record_answer()
    assert not breaker.half_open
    clock.now += 61
    fail(breaker, range(4), UnreachableError("down"))
    assert not breaker.half_open
    assert breaker.reason == ""


def test_a_probe_that_begins_as_another_call_is_answered_leaves_the_breaker_closed() -> None:
    breaker = CircuitBreaker(60.0)
    fail(breaker, range(5), UnreachableError("down"))
    breaker.record_answer()
    breaker.probe_delay()  # of a thread that saw the breaker half open just before the answer
    assert not breaker.half_open


def test_as_many_failures_as_calls_in_flight_may_have_one_cause() -> None:
    breaker = CircuitBreaker(60.0)
    fail(breaker, range(63), UnreachableError("connection reset"), in_flight=64)
    assert not breaker.half_open
    breaker.record_failure(63, UnreachableError("connection reset"), 64)
    assert breaker.half_open


@pytest.mark.parametrize(
    "error", [PermanentError("HTTP 413"), AnswerError("not JSON"), TransientError("HTTP 500")]
)
def test_refusals_do_not_half_open_the_breaker_but_open_it_in_the_end(
    clock: Clock, error: SwathError
) -> None:
    breaker = CircuitBreaker(60.0)
    fail(breaker, range(49), error)
    clock.now += 61
    fail(breaker, range(49), error)
    assert breaker.reason == ""
    breaker.record_failure(49, error, 1)
    assert not breaker.half_open
    assert "without an answer" in breaker.reason


def test_an_endpoint_that_only_throttles_has_three_times_the_seconds(
    clock: Clock,
) -> None:
    breaker = CircuitBreaker(60.0)
    fail(breaker, range(9), ThrottledError("busy"))
    clock.now += 180
    breaker.record_failure(0, ThrottledError("busy"), 1)
    assert breaker.reason == ""
    assert not breaker.half_open
    clock.now += 1
    breaker.record_failure(0, ThrottledError("busy"), 1)
    assert "181 s without an answer" in breaker.reason


def test_the_delay_between_probes_grows_to_5_seconds() -> None:
    breaker = CircuitBreaker(60.0)
    fail(breaker, range(5), UnreachableError("down"))
    assert [breaker.probe_delay() for _ in range(6)] == [0.5, 1, 2, 4, 5, 5]
    breaker.record_failure(9, AnswerError("it lives"), 1)
    assert not breaker.half_open
