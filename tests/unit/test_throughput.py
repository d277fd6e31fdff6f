"""Seconds a tile, from the timing of earlier regions of its model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.planning.throughput import TILE_SECONDS, RegionTiming, tile_seconds

figures = st.floats(0.01, 1e6)
works = st.lists(st.builds(RegionTiming, figures, figures, figures), min_size=1, max_size=10)


def test_a_model_that_was_not_timed_has_the_default() -> None:
    assert tile_seconds([], 1024 * 1024) == TILE_SECONDS


def test_the_seconds_are_in_proportion_to_the_pixels() -> None:
    assert tile_seconds([RegionTiming(100, 512 * 512, 20.0)], 1024 * 1024) == pytest.approx(0.8)


def test_regions_of_few_tiles_have_little_weight() -> None:
    small = [RegionTiming(1, 100, 30.0)] * 9  # the first tile had to wait for its endpoint
    assert tile_seconds([*small, RegionTiming(3000, 100, 600.0)], 100) == pytest.approx(0.2)


def test_one_slow_region_does_not_change_the_median() -> None:
    usual = [RegionTiming(1000, 100, 100.0 + i) for i in range(5)]
    assert tile_seconds([*usual, RegionTiming(1000, 100, 3000.0)], 100) < 0.11


@given(works, st.integers(1, 10**8))
def test_the_result_is_the_cost_of_one_of_them(works: list[RegionTiming], pixels: int) -> None:
    each = [work.work_seconds / work.tiles * pixels / work.tile_pixels for work in works]
    assert tile_seconds(works, pixels) in [pytest.approx(seconds) for seconds in each]


@given(works, st.integers(1, 10**8))
def test_their_order_does_not_matter(works: list[RegionTiming], pixels: int) -> None:
    assert tile_seconds(works, pixels) == tile_seconds(works[::-1], pixels)
