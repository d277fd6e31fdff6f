"""The slots that a region wants: it changes its number seldom, and takes none that others lack."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.sharing.slots import wanted_slots

LIMIT = 64
STEP = 8


def rounds(demands: list[int], number: int, chance: Random, *, at_once: bool) -> list[list[int]]:
    """What each region wants after each of some rounds, in which all get what they want.

    Args:
        demands: Of each region.
        number: Of rounds.
        chance: The order in which the regions look.
        at_once: Whether all look before one of them changes its number.
    """
    wanted, seen = [0] * len(demands), list[list[int]]()
    for _ in range(number):
        before = sum(wanted)
        for each in chance.sample(range(len(demands)), len(demands)):
            taken = before if at_once else sum(wanted)
            wanted[each] = wanted_slots(demands[each], wanted[each], min(taken, LIMIT), LIMIT)
        seen.append([*wanted])
    return seen


@pytest.mark.parametrize("at_once", [False, True])
@given(st.lists(st.integers(0, 12), max_size=16), st.randoms(use_true_random=False))
def test_regions_of_steady_demand_soon_change_nothing(
    at_once: bool,
    demands: list[int],
    chance: Random,
) -> None:
    seen = rounds(demands, 8, chance, at_once=at_once)
    assert all(before == after for before, after in pairwise(seen[3:]))
    assert all(has >= demand for has, demand in zip(seen[-1], demands, strict=True))


def test_a_demand_that_rises_is_met_in_steps_while_half_of_the_slots_are_free() -> None:
    assert [wanted_slots(each, 0, 0, LIMIT) for each in (1, STEP, STEP + 1)] == [8, 8, 16]
    assert wanted_slots(9, 8, LIMIT // 2, LIMIT) == 16
    assert wanted_slots(9, 8, LIMIT // 2 + 1, LIMIT) == 9


def test_slots_are_given_back_when_less_than_a_quarter_is_free() -> None:
    assert wanted_slots(2, 8, 48, LIMIT) == 8
    assert wanted_slots(2, 8, 49, LIMIT) == 2
    assert wanted_slots(0, 8, LIMIT, LIMIT) == 0
