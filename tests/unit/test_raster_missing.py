"""The pixels of failed tiles that no other tile was answered for."""

from __future__ import annotations

import numpy as np
import shapely
from hypothesis import given
from hypothesis import strategies as st

from tasks.grid.cells import tiles_at
from tasks.grid.roi import RegionOfInterest
from tasks.grid.tiles import Grid
from tasks.raster import missing_pixels
from tasks.results.coverage import TileRecord, TileState, ledger

grids = st.builds(
    Grid, st.integers(5, 60), st.integers(5, 60), st.integers(10, 25), st.integers(0, 9)
)
areas = st.none() | st.builds(
    lambda x, y, width, height: RegionOfInterest(shapely.box(x, y, x + width, y + height)),
    *(st.floats(0, 30), st.floats(0, 30), st.floats(1, 50), st.floats(1, 50)),
)


@given(grid=grids, roi=areas, data=st.data())
def test_missing_pixels_are_those_of_a_painted_mask(
    grid: Grid, roi: RegionOfInterest | None, data: st.DataObject
) -> None:
    tiles = [tile for region in grid.regions(1000) for tile in grid.tiles(region)]
    states = data.draw(
        st.lists(st.sampled_from(TileState), min_size=len(tiles), max_size=len(tiles))
    )
    table = ledger(
        TileRecord(tile, state, "HTTP 500" if state is TileState.FAILED else "")
        for tile, state in zip(tiles, states, strict=True)
    )
    answered = np.zeros((grid.height, grid.width), bool)
    for tile, state in zip(tiles, states, strict=True):
        if state is TileState.INFERRED:
            answered[tile.window.toslices()] = True
    y, x = np.mgrid[: grid.height, : grid.width] + 0.5
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    missing = ~answered.ravel()
    if roi is not None:
        missing &= roi.contains(centres)
    owners = np.bincount(tiles_at(grid, centres)[missing], minlength=len(grid))
    failed = np.array(states) == TileState.FAILED
    np.testing.assert_array_equal(missing_pixels(table, grid, roi), owners * failed)
