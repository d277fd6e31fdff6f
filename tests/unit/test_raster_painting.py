"""Blending: overlapping tiles become one raster, whoever answers first and however it is cut."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.grid.tiles import Grid, Tile
from tasks.raster import Painter
from tasks.raster.block_store import Blocks, Place
from tasks.raster.compression import compress
from tasks.raster.layers import pixels_of, stored_layers
from tasks.raster.painting import Painted, paint
from tasks.raster.row_strips import STRIP_BYTES
from tasks.raster.tile_maps import (
    ONE,
    TileMap,
    band_count,
    decode_map,
    encode_map,
    map_dtype,
    probabilities,
)
from tasks.request import RasterOutput

CLASSES = [{"value": number, "name": f"class {number}"} for number in range(3)]


def output(values: str, **fields: Any) -> RasterOutput:
    named = {} if values == "values" else {"classes": CLASSES}
    return RasterOutput.model_validate({"values": values, **named, **fields})


def random_map(grid: Grid, wanted: RasterOutput, seed: int) -> TileMap:
    random = np.random.default_rng(seed)
    shape = band_count(wanted), grid.tile_height, grid.tile_width
    if wanted.has_probabilities:
        return probabilities(random.dirichlet(np.ones(3), shape[1:]).transpose(2, 0, 1))
    if wanted.is_values:
        return random.normal(size=shape).astype(np.float32)
    return random.integers(0, 3, shape).astype(map_dtype(wanted))


def tiles(grid: Grid) -> list[Tile]:
    return [
        grid.tile(row, column)
        for row in range(len(grid.rows))
        for column in range(len(grid.columns))
    ]


def whole(grid: Grid, wanted: RasterOutput, answered: list[bool] | None = None) -> Painted:
    """The raster of the image in one piece."""
    maps = [
        (tile, random_map(grid, wanted, tile.index))
        for tile in tiles(grid)
        if answered is None or answered[tile.index]
    ]
    return paint(Window(0, 0, grid.width, grid.height), maps, grid, wanted)


grids = st.builds(
    Grid,
    width=st.integers(1, 60),
    height=st.integers(1, 60),
    tile_size=st.sampled_from([16, 17, 24]),
    overlap=st.integers(0, 14),
)
rasters = st.sampled_from(
    [
        output("probabilities"),
        output("logits", blend="clip"),
        output("probabilities", blend="max"),
        output("values"),
        output("values", blend="max"),
        output("classes"),
        output("classes", blend="vote"),
    ]
)


@given(grid=grids, wanted=rasters, data=st.data())
def test_a_raster_does_not_depend_on_how_it_is_cut(
    grid: Grid, wanted: RasterOutput, data: st.DataObject
) -> None:
    x = data.draw(st.integers(0, grid.width - 1))
    y = data.draw(st.integers(0, grid.height - 1))
    width = data.draw(st.integers(1, grid.width - x))
    height = data.draw(st.integers(1, grid.height - y))
    answered = data.draw(st.lists(st.booleans(), min_size=len(grid), max_size=len(grid)))
    window = Window(x, y, width, height)
    maps = [
        (tile, random_map(grid, wanted, tile.index)) for tile in tiles(grid) if answered[tile.index]
    ]
    part, full = paint(window, maps, grid, wanted), whole(grid, wanted, answered)
    rows, columns = window.toslices()
    np.testing.assert_array_equal(part.seen, full.seen[rows, columns])
    np.testing.assert_array_equal(part.bands, full.bands[:, rows, columns])


@given(grid=grids, order=st.randoms())
def test_sums_of_probabilities_do_not_depend_on_the_order_of_tiles(grid: Grid, order: Any) -> None:
    wanted = output("probabilities")
    maps = [(tile, random_map(grid, wanted, tile.index)) for tile in tiles(grid)]
    window = Window(0, 0, grid.width, grid.height)
    expected = paint(window, maps, grid, wanted).bands
    order.shuffle(maps)
    np.testing.assert_array_equal(paint(window, maps, grid, wanted).bands, expected)


@given(grid=grids)
def test_probabilities_are_a_mean_by_squared_sines(grid: Grid) -> None:
    wanted = output("probabilities")
    sums, total = np.zeros((3, grid.height, grid.width)), np.zeros((grid.height, grid.width))
    for tile in tiles(grid):
        weights = np.outer(sine(tile, grid, "row"), sine(tile, grid, "column"))
        where = tile.window.toslices()
        sums[:, *where] += weights * random_map(grid, wanted, tile.index) / ONE
        total[where] += weights
    painted = whole(grid, wanted)
    assert painted.seen.all()
    np.testing.assert_allclose(painted.bands, sums / total, atol=2e-4)
    np.testing.assert_allclose(painted.bands.sum(axis=0), 1, atol=1e-4)


def sine(tile: Tile, grid: Grid, axis: str) -> NDArray[np.float64]:
    """The weights along an axis, as docs/rasters.md defines them."""
    window = tile.window
    size, start, end = (
        (window.width, window.col_off, grid.width)
        if axis == "column"
        else (window.height, window.row_off, grid.height)
    )
    weights: NDArray[np.float64] = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    if start == 0:
        weights[: size // 2] = 1
    if start + size == end:
        weights[size // 2 :] = 1
    return weights


@pytest.mark.parametrize("values", ["probabilities", "values"])
def test_where_one_tile_looks_alone_it_decides(values: str) -> None:
    wanted, grid = output(values), Grid(100, 40, 40, 10)
    painted, first = whole(grid, wanted), random_map(grid, wanted, 0)
    alone = first[:, :, : grid.columns[1]] / (ONE if values == "probabilities" else 1)
    np.testing.assert_allclose(painted.bands[:, :, : grid.columns[1]], alone, rtol=1e-12)


@given(grid=grids)
def test_clip_gives_each_tile_its_own_cell(grid: Grid) -> None:
    wanted = output("classes")
    painted = whole(grid, wanted)
    y, x = np.indices((grid.height, grid.width)) + 0.5
    for tile in tiles(grid):
        window, (row, column) = tile.window, divmod(tile.index, len(grid.columns))
        inside = nearest(x, grid.columns, window.width, column) & nearest(
            y, grid.rows, window.height, row
        )
        expected = np.zeros((grid.height, grid.width))
        expected[window.toslices()] = random_map(grid, wanted, tile.index)[0]
        np.testing.assert_array_equal(painted.bands[0][inside], expected[inside])


def nearest(at: NDArray[np.float64], starts: list[int], size: int, index: int) -> NDArray[np.bool_]:
    """Where the centre of one tile along an axis is nearer than that of every other."""
    away = np.abs(at - np.array(starts)[:, None, None] - size / 2)
    nearer: NDArray[np.bool_] = (away[index] < np.delete(away, index, axis=0)).all(axis=0)
    return nearer


def test_the_most_frequent_class_wins_a_vote_and_the_nearest_tile_a_tie() -> None:
    grid = Grid(40, 8, 16, 12)
    wanted = output("classes", blend="vote")
    numbers = [0, 1, 1, 2, 2, 0, 0]
    maps = [(tile, np.full((1, 8, 16), numbers[tile.index], np.uint8)) for tile in tiles(grid)]
    painted = paint(Window(0, 0, 40, 8), maps, grid, wanted)
    for x in range(40):
        seeing = [tile for tile, _ in maps if tile.window.col_off <= x < tile.window.col_off + 16]
        votes = [numbers[tile.index] for tile in seeing]
        most = max(map(votes.count, votes))
        winners = [tile for tile in seeing if votes.count(numbers[tile.index]) == most]
        closest = min(winners, key=lambda tile: abs(tile.window.col_off + 8 - x - 0.5))
        assert painted.bands[0, 0, x] == numbers[closest.index]


def test_a_vote_of_many_tiles_takes_the_memory_of_a_few_bands() -> None:
    grid, wanted = Grid(256, 256, 32, 16), output("classes", blend="vote")
    maps = [(tile, random_map(grid, wanted, tile.index)) for tile in tiles(grid)]
    tracemalloc.start()
    try:
        paint(Window(0, 0, 256, 256), maps, grid, wanted)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * 256 * 256 * 8


def test_a_block_of_many_classes_is_painted_in_strips(tmp_path: Path) -> None:
    classes = [{"value": number, "name": f"class {number}"} for number in range(40)]
    wanted = output("probabilities", classes=classes, scores="uint8", polygons={})
    grid, random = Grid(90, 300, 80, 20), np.random.default_rng(5)
    maps = {
        tile.index: probabilities(random.random((40, 80, 80), np.float32)) for tile in tiles(grid)
    }
    (region,) = grid.regions(300)
    painter = Painter(grid, wanted, None, lambda tile: maps[tile.index])
    painter.paint_region(region, str(tmp_path / "painted"))
    blocks = Blocks(90, 300)
    blocks.add_all(str(tmp_path / "painted"))
    whole = Window(0, 0, 90, 300)
    pixels = pixels_of(
        paint(whole, [(tile, maps[tile.index]) for tile in tiles(grid)], grid, wanted), wanted
    )
    assert 2 * STRIP_BYTES < 300 * 512 * 40 * 8
    for layer in stored_layers(wanted):
        (body,) = blocks.read([Place(layer.name, 0, 0, 0)])
        assert body == compress(pixels[layer.name], layer)


def test_a_pixel_without_an_answer_counts_nowhere() -> None:
    grid, wanted = Grid(30, 20, 20, 10), output("values")
    left, right = np.ones((1, 20, 20), np.float32), np.full((1, 20, 20), 3, np.float32)
    left[0, 5, 15], left[0, 6, 2] = np.nan, np.nan
    painted = paint(
        Window(0, 0, 30, 20), list(zip(tiles(grid), [left, right], strict=True)), grid, wanted
    )
    assert painted.bands[0, 5, 15] == 3
    assert not painted.seen[6, 2]
    assert painted.seen.sum() == 30 * 20 - 1


@given(seed=st.integers(0, 99), wanted=rasters)
def test_a_map_is_kept_as_it_was(seed: int, wanted: RasterOutput) -> None:
    grid = Grid(17, 17, 17, 0)
    pixels = random_map(grid, wanted, seed)
    kept = decode_map(encode_map(pixels), wanted, (17, 17))
    assert kept.dtype == pixels.dtype
    np.testing.assert_array_equal(kept, pixels)


@pytest.mark.parametrize("broken", [lambda body: body[:-3], lambda _: b"", lambda _: b"GIF89a"])
def test_bytes_that_are_no_map_are_refused(broken: Callable[[bytes], bytes]) -> None:
    wanted = output("classes")
    body = encode_map(np.zeros((1, 17, 17), np.uint8))
    with pytest.raises((OSError, ValueError)):
        decode_map(broken(body), wanted, (17, 17))
