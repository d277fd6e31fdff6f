import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import RequestError
from tasks.grid.tiles import Grid, positions

cut = st.integers(1, 300).flatmap(lambda tile: st.tuples(st.just(tile), st.integers(0, tile - 1)))


def test_the_grid_equals_the_one_of_osml() -> None:
    grid = Grid(3376, 2576, 512, 128)
    assert (len(grid.columns), len(grid.rows)) == (9, 7)
    assert [x + 256 for x in grid.columns] == [256 + 358 * i for i in range(9)]
    assert [y + 256 for y in grid.rows] == [256 + 344 * i for i in range(7)]
    square = Grid(1024, 1024, 512, 256)
    assert [x + 256 for x in square.columns] == [256, 512, 768] == [y + 256 for y in square.rows]


@given(st.integers(1, 5000), cut)
def test_tiles_cover_an_axis_with_at_least_the_overlap(
    extent: int, tile_overlap: tuple[int, int]
) -> None:
    tile, overlap = tile_overlap
    starts = positions(extent, tile, overlap)
    assert starts[0] == 0
    assert max(starts) + min(tile, extent) == extent
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (steps <= tile - overlap).all()


@given(st.integers(1, 5000), cut)
def test_there_are_no_more_tiles_than_needed(extent: int, tile_overlap: tuple[int, int]) -> None:
    tile, overlap = tile_overlap
    count = len(positions(extent, tile, overlap))
    reach = tile + (count - 2) * (tile - overlap)  # pixels that one tile less would cover
    assert count == 1 or reach < extent


def test_the_tiles_of_a_huge_grid_are_counted_without_creating_them() -> None:
    assert len(Grid(2**31, 2**31, 16, 15)) == (2**31 - 15) ** 2


@given(st.integers(1, 2000), st.integers(1, 2000), cut, st.integers(1, 3000))
def test_regions_hold_every_tile_once_whatever_their_size(
    width: int, height: int, tile_overlap: tuple[int, int], size: int
) -> None:
    tile, overlap = max(tile_overlap[0], 20), min(tile_overlap[1], 10)
    grid = Grid(width, height, tile, overlap)
    regions = grid.regions(size)
    tiles = [tile for region in regions for tile in grid.tiles(region)]
    assert sorted(tile.index for tile in tiles) == list(range(len(grid)))
    assert sum(map(len, regions)) == len(grid)
    assert [region.index for region in regions] == list(range(len(regions)))


@given(st.integers(1, 3000), st.integers(1, 2000), cut, st.integers(1, 3000))
def test_regions_are_as_wide_as_permitted_and_no_wider(
    width: int, height: int, tile_overlap: tuple[int, int], widest: int
) -> None:
    tile, overlap = max(tile_overlap[0], 20), min(tile_overlap[1], 10)
    grid = Grid(width, height, tile, overlap)
    regions = grid.regions(500, widest)
    assert sum(map(len, regions)) == len(grid)
    for region in regions:
        assert region.width <= max(widest, grid.tile_width)
    if width <= widest:
        assert {region.width for region in regions} == {width}


def test_a_regions_pixels_are_those_of_its_tiles() -> None:
    grid = Grid(3376, 2576, 512, 128)
    for region in grid.regions(1200):
        tiles = [tile.window for tile in grid.tiles(region)]
        assert region.x == min(tile.col_off for tile in tiles)
        assert region.y == min(tile.row_off for tile in tiles)
        assert region.x + region.width == max(tile.col_off + tile.width for tile in tiles)
        assert region.y + region.height == max(tile.row_off + tile.height for tile in tiles)


def test_the_name_of_a_region_has_its_number_and_pixels() -> None:
    grid = Grid(8192, 8192, 1024, 0)
    squares = [region.name for region in grid.regions(4096)]
    assert squares[1] == "region 2 of 4, rows 0-4095, columns 4096-8191"
    full_width = [region.name for region in grid.regions(4096, 8192)]
    assert full_width == ["region 1 of 2, rows 0-4095", "region 2 of 2, rows 4096-8191"]


def test_an_image_smaller_than_a_tile_is_one_tile_of_its_size() -> None:
    grid = Grid(100, 60, 512, 50)
    assert len(grid) == 1
    assert (grid.tile(0, 0).window.width, grid.tile(0, 0).window.height) == (100, 60)


@pytest.mark.parametrize(("tile", "overlap"), [(64, 64), (64, 65), (64, -1)])
def test_an_overlap_that_cannot_cover_is_refused(tile: int, overlap: int) -> None:
    with pytest.raises(RequestError, match=f"imageProcessorTileOverlap {overlap}"):
        Grid(1000, 1000, tile, overlap)
