"""The pixels that have no answer because tiles failed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.grid.cells import pixel_cells
from tasks.grid.roi import RegionOfInterest
from tasks.grid.tiles import Grid, Span
from tasks.results import coverage


def missing_pixels(ledger: pa.Table, grid: Grid, roi: RegionOfInterest | None) -> NDArray[np.int64]:
    """Of each tile that failed, the pixels of its cell that no other tile was answered for.

    Args:
        ledger: Table of `coverage.SCHEMA` with every tile of the image, in the order of the grid.
        grid: The tiles of the image.
        roi: The region of interest; pixels whose centre lies outside are not missing.

    Returns:
        (n,) pixels; 0 for a tile that did not fail.
    """
    across = len(grid.columns)
    inferred = (coverage.inferred(ledger, grid) == 1).reshape(len(grid.rows), across)
    columns, rows = pixel_cells(grid)
    missing = np.zeros(len(ledger), np.int64)
    for index in np.flatnonzero(coverage.failed(ledger)):
        row, column = divmod(int(ledger["tile"][index].as_py()), across)
        left, right = columns[column : column + 2]
        top, bottom = rows[row : row + 2]
        cell = Window(left, top, right - left, bottom - top)
        open_pixels = np.ones((cell.height, cell.width), bool)
        for down in range(*_overlapping(grid.rows, grid.tile_height, top, bottom)):
            for along in range(*_overlapping(grid.columns, grid.tile_width, left, right)):
                if inferred[down, along]:
                    y, x = grid.rows[down] - top, grid.columns[along] - left
                    seen_rows = slice(max(0, y), y + grid.tile_height)
                    open_pixels[seen_rows, max(0, x) : x + grid.tile_width] = False
        if roi is not None:
            open_pixels &= roi.pixels(cell)
        missing[index] = open_pixels.sum()
    return missing


def _overlapping(starts: list[int], tile: int, first: int, stop: int) -> Span:
    """The first of the tiles along an axis that overlap some pixels, and one after the last."""
    return (
        int(np.searchsorted(starts, first - tile, "right")),
        int(np.searchsorted(starts, stop, "left")),
    )
