"""Seconds a tile, from the timing of earlier regions of its model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.planning.throughput import (
    TILE_SECONDS,
    RegionTiming,
    tile_seconds,
    untimed_tile_seconds,
)
from tasks.request import EndpointType

figures = st.floats(0.01, 1e6)
works = st.lists(st.builds(RegionTiming, figures, figures, figures), min_size=1, max_size=10)


def test_a_model_that_was_not_timed_has_the_default() -> None:
    assert tile_seconds([], 1024 * 1024, 0.5) == 0.5


@pytest.mark.parametrize("endpoint", EndpointType)
def test_regions_of_an_endpoint_are_larger_than_those_of_a_model_in_the_process(
    endpoint: EndpointType,
) -> None:
    in_process = endpoint in {EndpointType.ONNX, EndpointType.BUILTIN}
    assert untimed_tile_seconds(endpoint) == (TILE_SECONDS if in_process else TILE_SECONDS / 5)


def test_the_seconds_are_in_proportion_to_the_pixels() -> None:
    timing = RegionTiming(100, 512 * 512, 20.0)
    assert tile_seconds([timing], 1024 * 1024, 0.1) == pytest.approx(0.8)


def test_regions_of_few_tiles_have_little_weight() -> None:
    small = [RegionTiming(1, 100, 30.0)] * 9  # the first tile had to wait for its endpoint
    assert tile_seconds([*small, RegionTiming(3000, 100, 600.0)], 100, 0.1) == pytest.approx(0.2)


def test_one_slow_region_does_not_change_the_median() -> None:
    usual = [RegionTiming(1000, 100, 100.0 + i) for i in range(5)]
    assert tile_seconds([*usual, RegionTiming(1000, 100, 3000.0)], 100, 0.1) < 0.11


@given(works, st.integers(1, 10**8))
def test_the_result_is_the_cost_of_one_of_them(works: list[RegionTiming], pixels: int) -> None:
    each = [work.work_seconds / work.tiles * pixels / work.tile_pixels for work in works]
    assert tile_seconds(works, pixels, 0.1) in [pytest.approx(seconds) for seconds in each]


@given(works, st.integers(1, 10**8))
def test_their_order_does_not_matter(works: list[RegionTiming], pixels: int) -> None:
    assert tile_seconds(works, pixels, 0.1) == tile_seconds(works[::-1], pixels, 0.1)
