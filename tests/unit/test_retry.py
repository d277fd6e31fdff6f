"""Patience: how often an endpoint is called, and how long is waited in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import AnswerError, Permanent, Throttled, Transient
from tasks.inference.retry import attempt

SLEEP = "tasks.inference.retry.time.sleep"


class Endpoint:
    """Raises what it is told to, one after the other, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.calls = 0
        self._errors = iter(errors)

    def __call__(self) -> str:
        self.calls += 1
        for error in self._errors:
            raise error
        return "answer"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds waited, none of them really."""
    slept: list[float] = []
    monkeypatch.setattr(SLEEP, slept.append)
    return slept


def waits_of(errors: list[Exception], attempts: int) -> list[float]:
    slept: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SLEEP, slept.append)
        assert attempt(Endpoint(*errors), attempts) == "answer"
    return slept


def test_an_answer_is_not_waited_for(waits: list[float]) -> None:
    endpoint = Endpoint()
    assert attempt(endpoint, 1) == "answer"
    assert (endpoint.calls, waits) == (1, [])


def test_what_is_transient_is_tried_again(waits: list[float]) -> None:
    endpoint = Endpoint(Transient("one"), Throttled("two"))
    assert attempt(endpoint, 3) == "answer"
    assert (endpoint.calls, len(waits)) == (3, 2)


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_the_last_error_is_told_once_the_attempts_are_spent(
    waits: list[float], attempts: int
) -> None:
    endpoint = Endpoint(*[Transient(f"call {number}") for number in range(1, 9)])
    with pytest.raises(Transient, match=f"call {attempts}"):
        attempt(endpoint, attempts)
    assert (endpoint.calls, len(waits)) == (attempts, attempts - 1)


@pytest.mark.parametrize("error", [Permanent("no such model"), AnswerError("not JSON")])
def test_what_will_never_answer_is_called_once(waits: list[float], error: Exception) -> None:
    endpoint = Endpoint(error)
    with pytest.raises(type(error)):
        attempt(endpoint, 9)
    assert (endpoint.calls, waits) == (1, [])


@given(st.integers(1, 12))
def test_waits_stay_below_a_bound_that_doubles_up_to_20_seconds(failures: int) -> None:
    errors: list[Exception] = [Transient("busy")] * failures
    slept = waits_of(errors, failures + 1)
    bounds = [min(20.0, 0.5 * 2**number) for number in range(failures)]
    assert len(slept) == failures
    assert all(0 <= wait <= bound for wait, bound in zip(slept, bounds, strict=True))


def test_waits_are_jittered_over_the_whole_of_their_bound() -> None:
    firsts = [waits_of([Transient("busy")], 2)[0] for _ in range(400)]
    assert min(firsts) < 0.1
    assert max(firsts) > 0.4
    assert 0.2 < sum(firsts) / len(firsts) < 0.3


@given(st.floats(0, 1e6) | st.just(float("inf")))
def test_what_the_endpoint_asks_for_is_the_least_wait_up_to_20_seconds(asked: float) -> None:
    (wait,) = waits_of([Throttled("busy", asked)], 2)
    assert min(asked, 20.0) <= wait <= min(asked, 20.0) + 0.5


def test_patience_without_a_number_waits_as_any_error_does() -> None:
    (wait,) = waits_of([Throttled("busy", None)], 2)
    assert 0 <= wait <= 0.5


@pytest.mark.parametrize("attempts", [0, -1])
def test_no_attempts_is_a_mistake(attempts: int) -> None:
    with pytest.raises(ValueError, match=f"not {attempts}"):
        attempt(Endpoint(), attempts)


def test_other_errors_are_not_ours_to_repeat(waits: list[float]) -> None:
    endpoint = Endpoint(KeyError("a fault"))
    with pytest.raises(KeyError):
        attempt(endpoint, 3)
    assert endpoint.calls == 1
