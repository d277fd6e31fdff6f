"""Work in threads comes back in order, and no further than its memory allows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from tasks.raster.threads import in_order, threads_for


def test_results_come_in_the_order_of_the_items() -> None:
    def later_if_early(number: int) -> int:
        time.sleep(0.01 if number % 3 == 0 else 0)
        return number

    found = in_order(later_if_early, range(40), threads=4, weight=lambda _: 1, most=8)
    assert list(found) == list(range(40))


@pytest.mark.parametrize(("weight", "ahead"), [(1, 6), (4, 1), (100, 1)])
def test_no_more_is_begun_than_may_wait(weight: int, ahead: int) -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(20):
            taken += 1
            yield number

    found = in_order(abs, items(), threads=2, weight=lambda _: weight, most=6)
    for done, _ in enumerate(found, start=1):
        assert taken <= done + ahead


def test_an_error_comes_with_its_item_and_ends_the_work() -> None:
    with closing(
        in_order(lambda at: 1 // (2 - at), range(9), threads=2, weight=lambda _: 1, most=2)
    ) as found:
        assert [next(found), next(found)] == [0, 1]
        with pytest.raises(ZeroDivisionError):
            next(found)
        assert next(found, None) is None


def test_large_items_have_fewer_threads() -> None:
    assert threads_for(1 << 40) == 1
    assert 1 <= threads_for(1) <= 4
