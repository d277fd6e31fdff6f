"""The proof that an image is covered: the areas of its tiles add up to the region of interest."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.grid.cells import Cells
from tasks.results.coverage import MEASURED, TileState

_TOLERANCE = 1e-9  # relative to the area, or for slivers to the perimeter times one pixel
_SPECK = 1e-4  # px²: rounding may leave that much if a polygon ends at the edge of a cell


def measure(table: pa.Table, cells: Cells) -> pa.Table:
    """The ledger of an image with the area that each tile answers for: a table of `MEASURED`.

    Args:
        table: A ledger of `SCHEMA`.
        cells: Of the image's grid.
    """
    # a row whose tile is not in the grid gets an arbitrary area; `check_complete` refuses it
    areas = np.take(cells.areas, table["tile"].to_numpy(), mode="clip")
    outside = pc.equal(table["state"], TileState.OUTSIDE.value).to_numpy()
    areas[outside & (areas < _SPECK)] = 0.0
    return table.append_column(MEASURED.field("area_px"), pa.array(areas))


def check_complete(table: pa.Table, cells: Cells) -> None:
    """Prove that every pixel of the region of interest is accounted for exactly once.

    Each tile has one row, no tile in state OUTSIDE answers for an area, and the areas add up to
    that of the region of interest inside the image, to 1e-9 of it.

    Args:
        table: The ledger of the image, of `MEASURED`.
        cells: Of the image's grid.

    Raises:
        RuntimeError: The ledger is incomplete, which is a bug of Swath, never of its input.
    """
    tiles = len(cells.areas)
    if not np.array_equal(table["tile"].to_numpy(), np.arange(tiles)):
        raise RuntimeError(f"The ledger has {len(table)} rows for {tiles} tiles.")
    outside = table.filter(pc.equal(table["state"], TileState.OUTSIDE.value))
    left_out = outside.filter(pc.greater(outside["area_px"], 0.0))
    if len(left_out):
        raise RuntimeError(
            f"The ledger leaves out {pc.sum(left_out['area_px'])} px² of the region of interest: "
            f"{len(left_out)} tiles, from tile {left_out['tile'][0]} on, are marked as outside it."
        )
    total = table["area_px"].to_numpy().sum()
    if abs(total - cells.total_area) > _TOLERANCE * max(cells.total_area, cells.perimeter):
        raise RuntimeError(
            f"The ledger's areas add up to {total} px², but the region of interest has "
            f"{cells.total_area} px²."
        )
