"""The audit of a soak finds what is wrong, and accepts what a fault explains."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.soak import audit
from tests.soak.audit import Hit
from tests.soak.calls import Call
from tests.soak.drawing import FaultKind, draw
from tests.soak.expected import Result

INTERVAL = 30.0
FIRST = Call("tile", began=100.0, ended=101.0, paid=True)
AGAIN = Call("tile", began=200.0, ended=201.0, paid=True)
RESULT = Result("SUCCESS", [{"id": 1}, {"id": 2}], {0: "inferred", 1: "inferred"})


def repeated(*hits: Hit, calls: tuple[Call, ...] = (FIRST, AGAIN)) -> list[str]:
    return list(audit.repeated_calls(calls, {"tile": "job"}, hits, INTERVAL))


def killed(at: float, job: str = "job") -> Hit:
    return Hit(FaultKind.REGION_KILLED, "", at, at, frozenset({job}))


@pytest.mark.parametrize("at", [100.5, 101.0, 120.0, 131.0])
def test_a_call_that_a_kill_explains_is_accepted(at: float) -> None:
    assert not repeated(killed(at))


@pytest.mark.parametrize(
    "hit", [killed(99.0), killed(140.0), killed(210.0), killed(120.0, "other")]
)
def test_a_call_that_no_kill_explains_is_found(hit: Hit) -> None:
    (found,) = repeated(hit)
    assert "job: tile" in found


def test_the_time_without_s3_does_not_count() -> None:
    away = Hit(FaultKind.S3_FAILING, "", 102.0, 122.0)
    assert repeated(killed(150.0))
    assert not repeated(killed(150.0), away)
    assert repeated(away)


@pytest.mark.parametrize(("goes_on", "problems"), [(95.0, 0), (60.0, 1)])
def test_a_process_that_goes_on_may_ask_until_it_learns_that_its_run_was_replaced(
    goes_on: float, problems: int
) -> None:
    frozen = Hit(FaultKind.REGION_FROZEN, "", 50.0, goes_on, frozenset({"job"}))
    assert len(repeated(frozen)) == problems


def test_a_call_that_was_not_answered_may_be_repeated() -> None:
    assert not repeated(calls=(replace(FIRST, paid=False), AGAIN))


@pytest.mark.parametrize(
    ("told", "problems"),
    [
        (["STARTED", "IN_PROGRESS", "SUCCESS"], 0),
        (["STARTED", "STARTED", "IN_PROGRESS", "PARTIAL"], 0),
        (["STARTED", "SUCCESS", "SUCCESS"], 1),
        (["STARTED", "SUCCESS", "STARTED"], 1),
        ([], 1),
    ],
)
def test_one_status_ends_an_image(told: list[str], problems: int) -> None:
    assert len(list(audit.statuses("image", told, 1))) == problems


def test_a_message_that_is_sent_twice_may_end_twice() -> None:
    told = ["STARTED", "FAILED", "STARTED", "SUCCESS"]
    assert not list(audit.statuses("image", told, 2))


@pytest.mark.parametrize(
    ("kinds", "problems"),
    [
        ([], 1),
        ([FaultKind.IMAGE_KILLED] * 2 + [FaultKind.REGION_KILLED], 1),
        ([FaultKind.IMAGE_KILLED] * 2 + [FaultKind.TERMINATED], 0),
        ([FaultKind.CANCELLED], 0),
        ([FaultKind.BUCKET_MISSING], 0),
    ],
)
def test_an_image_may_fail_if_a_fault_explains_it(kinds: list[FaultKind], problems: int) -> None:
    hits = [Hit(kind, "", 100.0, 100.0, frozenset({"job"})) for kind in kinds]
    told = ["STARTED", "FAILED", "STARTED", "SUCCESS"]
    assert len(list(audit.failures("image", "job", told, RESULT, hits))) == problems
    assert not list(audit.failures("image", "job", ["FAILED"], Result("FAILED"), []))


def check(found: Result, without: Result | None = None) -> list[str]:
    return list(audit.result("image", found, RESULT, without))


def test_the_fault_free_result_is_accepted() -> None:
    assert not check(RESULT)


@pytest.mark.parametrize(
    "found",
    [
        replace(RESULT, features=RESULT.features[:1]),
        replace(RESULT, features=[*RESULT.features, {"id": 2}]),
        replace(RESULT, features=RESULT.features[::-1]),
        replace(RESULT, status="PARTIAL"),
        replace(RESULT, states={0: "inferred", 1: "blank"}),
        Result("PARTIAL"),
        Result("FAILED"),
    ],
)
def test_another_result_is_found(found: Result) -> None:
    assert check(found)


def test_a_partial_result_lists_what_is_missing() -> None:
    found = Result("PARTIAL", RESULT.features[:1], {0: "inferred", 1: "failed"})
    assert not check(found, without=found)
    assert check(found, without=replace(found, features=RESULT.features[1:]))


def test_a_seed_draws_the_same_each_time_and_every_fault_once_before_any_twice() -> None:
    assert draw(7, 20, 30) == draw(7, 20, 30) != draw(8, 20, 30)
    first = {fault.kind for fault in draw(7, 5, len(FaultKind)).faults}
    assert first == set(FaultKind)
