"""The turns of regions: the next begins while the last one ends, and never a third."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from threading import Event

import pytest

from tasks.job.turns import MAX_AT_A_TIME, work_in_turn

LONG = 30.0  # seconds: a wait that only a failing test waits for


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(MAX_AT_A_TIME) as executor:
        yield executor


def test_the_next_item_begins_before_the_last_one_has_ended(threads: ThreadPoolExecutor) -> None:
    second_began, order = Event(), []

    def work(item: int, may_begin: Callable[[], None]) -> bool:
        if item == 0:
            may_begin()
            assert second_began.wait(LONG)
        else:
            second_began.set()
        order.append(item)
        return False

    work_in_turn([0, 1], work, threads)
    assert order[0] in (0, 1)
    assert sorted(order) == [0, 1]


def test_an_item_that_gives_no_turn_ends_before_the_next_begins(
    threads: ThreadPoolExecutor,
) -> None:
    events: list[tuple[str, int]] = []

    def work(item: int, _: Callable[[], None]) -> bool:
        events.append(("began", item))
        events.append(("ended", item))
        return False

    work_in_turn([0, 1, 2], work, threads)
    assert events == [(event, item) for item in range(3) for event in ("began", "ended")]


def test_no_third_item_begins_beside_two(threads: ThreadPoolExecutor) -> None:
    at_work, most, lock = set(), 0, threading.Lock()

    def work(item: int, may_begin: Callable[[], None]) -> bool:
        nonlocal most
        with lock:
            at_work.add(item)
            most = max(most, len(at_work))
        may_begin()
        Event().wait(0.01)
        with lock:
            at_work.remove(item)
        return False

    work_in_turn(range(8), work, threads)
    assert most <= MAX_AT_A_TIME


def test_an_item_to_be_worked_again_comes_before_new_ones(threads: ThreadPoolExecutor) -> None:
    begun: list[int] = []

    def work(item: int, _: Callable[[], None]) -> bool:
        begun.append(item)
        return item == 0 and begun.count(0) < 3

    work_in_turn([0, 1], work, threads)
    assert begun == [0, 0, 0, 1]


def test_an_item_that_fails_at_its_end_is_worked_again_after_the_one_that_has_begun(
    threads: ThreadPoolExecutor,
) -> None:
    begun: list[int] = []
    second_began = Event()

    def work(item: int, may_begin: Callable[[], None]) -> bool:
        begun.append(item)
        if item == 0 and begun.count(0) == 1:
            may_begin()
            assert second_began.wait(LONG)
            return True
        if item == 1:
            second_began.set()
        return False

    work_in_turn([0, 1, 2], work, threads)
    assert begun == [0, 1, 0, 2]


def test_an_error_ends_the_work(threads: ThreadPoolExecutor) -> None:
    begun: list[int] = []

    def work(item: int, _: Callable[[], None]) -> bool:
        begun.append(item)
        raise ValueError(item)

    with pytest.raises(ValueError, match="0"):
        work_in_turn([0, 1, 2], work, threads)
    assert begun == [0]


def test_a_single_item_is_worked_in_the_thread_of_the_caller(threads: ThreadPoolExecutor) -> None:
    where: list[threading.Thread] = []

    def work(_: int, __: Callable[[], None]) -> bool:
        where.append(threading.current_thread())
        return len(where) < 2

    work_in_turn([0], work, threads)
    assert where == [threading.current_thread()] * 2


def test_the_context_of_the_caller_is_that_of_the_items(threads: ThreadPoolExecutor) -> None:
    name: ContextVar[str] = ContextVar("name")
    name.set("image")
    found = []

    def work(_: int, __: Callable[[], None]) -> bool:
        found.append(name.get())
        name.set("region")
        return False

    work_in_turn([0, 1], work, threads)
    assert found == ["image", "image"]
    assert name.get() == "image"
