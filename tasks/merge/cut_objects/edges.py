"""Objects that a tile edge cuts and a neighbouring tile shows whole: the cut view is dropped.

A view is what one tile shows of an object: a detection. Along an axis, two neighbouring tiles share
their overlap. If a view starts at an edge of its tile and ends within the overlap with the
neighbour beyond that edge, the neighbour shows at least as much of the object. So the view is
dropped if the neighbour was inferred. The neighbour's view may itself be cut by a further edge and
be dropped. Each step goes in the same direction and to a view that shows more, so the last view
stays and no object is lost.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.grid.tiles import Grid
from tasks.merge.compiled import compiled
from tasks.merge.deferral import DROPPED, KEPT, UNDECIDED

TOLERANCE = 2.0
"""Distance to an edge, px, up to which a view counts as touching it: boxes often end before it."""

MARGIN, SLACK = 6.0, 1 / 8
"""Distance that a view must keep from the neighbour's own edge: px, and a share of the overlap.

Both are added. Then the neighbour's view of the object also ends more than TOLERANCE before that
edge, provided that each view's end is off by at most 2 px and 1/16 of the overlap (half of the
distance beyond TOLERANCE). So the neighbour's view is not cut there, and is not dropped in favour
of this one. Longer objects are left to `tasks.merge.cut_objects.largest_view`.
"""


class Tiling(NamedTuple):
    """A grid's tiles as arrays, for compiled functions.

    Attributes:
        columns: (c,) int64 first pixel of each tile column.
        rows: (r,) int64 first pixel of each tile row.
        width: Width of every tile, px.
        height: Height of every tile, px.
    """

    columns: NDArray[np.int64]
    rows: NDArray[np.int64]
    width: float
    height: float

    @classmethod
    def of(cls, grid: Grid) -> Tiling:
        """The tiles of a grid."""
        columns, rows = np.array(grid.columns, np.int64), np.array(grid.rows, np.int64)
        return cls(columns, rows, float(grid.tile_width), float(grid.tile_height))


def drop_cut_views(
    boxes: NDArray[np.float64],
    tiles: NDArray[np.int64],
    grid: Grid,
    inferred: NDArray[np.int8],
) -> NDArray[np.uint8]:
    """Drop each detection that an edge of its tile cuts and the tile beyond that edge shows whole.

    The edges of the image cut nothing, as no tile lies beyond them. A detection that two edges cut
    (at a corner of its tile) is dropped if any of the three tiles beyond was inferred: each shows
    more of the object than this one.

    Args:
        boxes: (n, 4) x_min, y_min, x_max, y_max in pixels of the full image.
        tiles: (n,) index in the grid of each detection's tile.
        grid: The image's tiles.
        inferred: (len(grid),) 1 if a tile was inferred; 0 if it was not (failed, blank, outside the
            region of interest); −1 if that is not known.

    Returns:
        (n,) DROPPED, KEPT, or UNDECIDED if it depends on a tile whose state is not known.
    """
    corners = np.ascontiguousarray(boxes, np.float64).reshape(-1, 4)
    decisions = np.full(len(corners), KEPT, np.uint8)
    _drop(corners, tiles, Tiling.of(grid), inferred, decisions)
    return decisions


@compiled
def _drop(
    boxes: NDArray[np.float64],
    tiles: NDArray[np.int64],
    tiling: Tiling,
    inferred: NDArray[np.int8],
    decisions: NDArray[np.uint8],
) -> None:
    across = len(tiling.columns)
    for index in range(len(tiles)):
        row, column = divmod(tiles[index], across)
        x_min, y_min, x_max, y_max = boxes[index]
        right = _step_to_whole(x_min, x_max, tiling.columns, column, tiling.width)
        down = _step_to_whole(y_min, y_max, tiling.rows, row, tiling.height)
        for columns, rows in ((right, 0), (0, down), (right, down)):
            if columns == 0 and rows == 0:
                continue
            known = inferred[(row + rows) * across + column + columns]
            if known == 1:
                decisions[index] = DROPPED
            elif known == -1 and decisions[index] == KEPT:
                decisions[index] = UNDECIDED


@compiled
def _step_to_whole(
    low: float, high: float, starts: NDArray[np.int64], tile: int, extent: float
) -> int:
    """Step along an axis to the tile that shows a cut object whole: −1, 1, or 0 if there is none.

    At most one of −1 and 1 applies: a view that touches both edges is longer than any overlap.
    """
    before, after = touches(low, high, starts, tile, extent)
    start, stop = starts[tile], starts[tile] + extent
    if before and high - start < longest(starts[tile - 1] + extent - start):
        return -1
    if after and stop - low < longest(stop - starts[tile + 1]):
        return 1
    return 0


@compiled
def longest(overlap: float) -> float:
    """How far from an edge a view may reach, px, for an overlap with the tile beyond it, px."""
    return overlap - SLACK * overlap - MARGIN


@compiled
def touches(
    low: float, high: float, starts: NDArray[np.int64], tile: int, extent: float
) -> tuple[bool, bool]:
    """Whether a view touches the first and the last edge of its tile that have a tile beyond them.

    Args:
        low: Start of the view along the axis, px of the full image.
        high: Its end.
        starts: (n,) first pixels of the tiles along the axis.
        tile: Index of the tile among them.
        extent: Size of every tile along the axis, px.
    """
    before = tile > 0 and low <= starts[tile] + TOLERANCE
    after = tile < len(starts) - 1 and high >= starts[tile] + extent - TOLERANCE
    return before, after
