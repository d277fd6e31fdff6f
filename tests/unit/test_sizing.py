"""The number and size of regions: minutes of work each, for all workers, covering every tile."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.grid.tiles import Grid, Region
from tasks.planning.sizing import MAX_ROUNDS, MAX_TILES, OverlapCost, region_count, sized_regions
from tasks.planning.throughput import Throughput

TARGET = 300.0  # seconds of work that a region should be
LEAST = TARGET / 5

tiles = st.integers(1, 2_000_000)
costs = st.floats(1e-4, 1e4)
workers = st.integers(1, 200)


def makespan(tiles: int, throughput: Throughput) -> float:
    """Seconds until the last worker is done, were tiles divisible."""
    count = region_count(tiles, throughput, TARGET)
    return ceil(count / throughput.workers) * tiles * throughput.tile_seconds / count


@given(tiles, costs, workers)
def test_there_are_no_more_regions_than_tiles_and_each_fits_in_memory(
    tiles: int, cost: float, workers: int
) -> None:
    count = region_count(tiles, Throughput(cost, workers), TARGET)
    assert 1 <= count <= tiles
    assert tiles / count <= MAX_TILES


@given(tiles, costs, workers)
def test_a_region_is_minutes_of_work(tiles: int, cost: float, workers: int) -> None:
    count = region_count(tiles, Throughput(cost, workers), TARGET)
    each = tiles * cost / count
    assert each <= TARGET * (1 + 1e-9) or count >= min(tiles, MAX_ROUNDS * workers)
    if count > ceil(tiles / MAX_TILES):  # more would not fit in memory
        assert each >= LEAST * (1 - 1e-9)


@given(tiles, costs, workers)
def test_no_worker_is_idle_while_others_have_a_region_more(
    tiles: int, cost: float, workers: int
) -> None:
    count = region_count(tiles, Throughput(cost, workers), TARGET)
    left_over = count > workers and count % workers
    assert not left_over or count in (tiles, ceil(tiles / MAX_TILES))


@given(tiles, costs, workers)
def test_all_workers_have_work_if_it_justifies_their_start(
    tiles: int, cost: float, workers: int
) -> None:
    if region_count(tiles, Throughput(cost, workers), TARGET) < min(workers, tiles):
        assert tiles * cost / workers < LEAST * (1 + 1e-9)


@given(tiles, costs, costs, workers)
def test_slower_tiles_give_no_fewer_regions(
    tiles: int, one: float, other: float, workers: int
) -> None:
    cheap, dear = sorted([one, other])
    assert region_count(tiles, Throughput(cheap, workers), TARGET) <= region_count(
        tiles, Throughput(dear, workers), TARGET
    )


@given(st.integers(1000, 2_000_000), st.floats(0.01, 10), workers, workers)
def test_more_workers_finish_no_later(tiles: int, cost: float, workers: int, further: int) -> None:
    later = makespan(tiles, Throughput(cost, workers + further))
    assert later <= makespan(tiles, Throughput(cost, workers)) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("tiles", "cost", "workers", "count"),
    [
        (1, 0.1, 32, 1),
        (590, 0.1, 32, 1),  # under a minute
        (1200, 0.1, 32, 2),  # two minutes
        (100_000, 0.1, 32, 64),  # 10,000 s: twice 156 s on each
        (100_000, 0.1, 1, 34),
        (100_000, 0.001, 1, 10),  # fewer would not fit in memory
        (7, 400.0, 4, 7),  # a tile is more than a region should take
    ],
)
def test_examples(tiles: int, cost: float, workers: int, count: int) -> None:
    assert region_count(tiles, Throughput(cost, workers), TARGET) == count


@st.composite
def images(draw: st.DrawFn) -> tuple[Grid, NDArray[np.bool_]]:
    """A grid, and which of its tiles are in the region of interest."""
    grid = Grid(draw(st.integers(1, 6000)), draw(st.integers(1, 6000)), 100, 10)
    shape = len(grid.rows), len(grid.columns)
    seed, share = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0.01, 0.3, 1.0]))
    asked = np.random.default_rng(seed).random(shape) < share
    top, left = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))
    asked[:top] = False
    asked[top, left] = True
    return grid, asked


@given(images(), st.floats(0.01, 1000), workers, st.integers(1, 8000), st.integers(0, 6000))
def test_every_tile_is_in_one_region_and_none_is_wider_than_memory_permits(
    image: tuple[Grid, NDArray[np.bool_]], cost: float, workers: int, widest: int, seam: int
) -> None:
    grid, asked = image
    fewest = grid.min_region_columns(widest)
    throughput = Throughput(cost, workers)
    regions = sized_regions(
        grid, asked, throughput, TARGET, min_columns=fewest, overlap_cost=OverlapCost(seam, seam)
    )
    found = sorted(tile.index for region in regions for tile in grid.tiles(region))
    assert found == list(range(len(grid)))
    assert [(region.index, region.of) for region in regions] == [
        (index, len(regions)) for index in range(len(regions))
    ]
    # tiles stand at whole pixels, so as many of them may be a pixel wider elsewhere
    assert all(region.width <= max(widest, grid.tile_width) + 1 for region in regions)


def cut(
    grid: Grid, throughput: Throughput, seams: OverlapCost, asked: NDArray[np.bool_] | None = None
) -> list[Region]:
    whole = np.ones((len(grid.rows), len(grid.columns)), np.bool_)
    chosen = whole if asked is None else asked
    return sized_regions(grid, chosen, throughput, TARGET, min_columns=1, overlap_cost=seams)


BLOCKS = OverlapCost(64 + 512, 64 + 512)
SQUARE = Grid(40_000, 40_000, 512, 64)
FLAT = Grid(200_000, 1_000, 512, 64)


def read_twice(regions: list[Region], grid: Grid) -> float:
    """Share of the image that regions read more than once."""
    return sum(region.width * region.height for region in regions) / grid.width / grid.height - 1


def test_little_of_an_image_is_read_twice() -> None:
    regions = cut(SQUARE, Throughput(0.2, 8), BLOCKS)
    assert len(regions) == 8
    assert read_twice(regions, SQUARE) < read_twice(SQUARE.regions(40_000 // 8, 40_000), SQUARE)
    assert cut(SQUARE, Throughput(0.001, 1), BLOCKS) == SQUARE.regions(40_000)


def test_regions_are_blocks_even_if_there_are_as_many_as_tile_rows() -> None:
    grid = Grid(60_000, 60_000, 512, 64)
    regions = cut(grid, Throughput(2.0, 200), BLOCKS)
    assert 200 <= len(regions) <= 220
    assert min(region.height for region in regions) > 2 * 512


def test_a_flat_image_is_cut_into_columns() -> None:
    regions = cut(FLAT, Throughput(0.5, 8), BLOCKS)
    assert len(regions) == 8
    assert {region.height for region in regions} == {1_000}


def test_the_detections_of_regions_side_by_side_fit_in_memory() -> None:
    grid = Grid(300_000, 300_000, 512, 64)
    regions = cut(grid, Throughput(0.1, 32), BLOCKS)
    assert len({region.column_start for region in regions}) > 1
    rows = {(region.row_start, region.row_stop) for region in regions}
    assert max(stop - start for start, stop in rows) * len(grid.columns) < 1.1 * MAX_TILES


def test_few_workers_do_not_make_regions_larger() -> None:
    grid = Grid(900, 700, 512, 50)
    assert len(cut(grid, Throughput(1000.0, 1), BLOCKS)) == len(grid) == 4


def test_strips_that_each_region_would_read_whole_are_not_cut_into_columns() -> None:
    assert {
        region.width for region in cut(SQUARE, Throughput(0.2, 7), OverlapCost(65, 40_064))
    } == {40_000}


def test_there_is_not_one_region_more_than_workers() -> None:
    grid = Grid(100_000, 3_700, 512, 64)  # 8 rows
    assert len(cut(grid, Throughput(0.3, 7), BLOCKS)) == 7


def test_all_regions_have_work_if_the_roi_is_small() -> None:
    asked = np.zeros((len(SQUARE.rows), len(SQUARE.columns)), np.bool_)
    asked[60:80, 10:50] = True
    regions = cut(SQUARE, Throughput(0.6, 8), BLOCKS, asked)
    work = [
        int(asked[r.row_start : r.row_stop, r.column_start : r.column_stop].sum()) for r in regions
    ]
    assert len(work) == 8
    assert max(work) < 2 * min(work)
