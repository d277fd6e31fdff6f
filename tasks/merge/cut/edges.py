"""Objects cut by a tile edge that a neighbouring tile shows whole: the cut view goes.

Along an axis, the neighbour beyond an edge ends as far inside of the tile as the two overlap. A
view that starts at the edge and ends before that is of an object of which the neighbour shows at
least as much, in the same rows or columns: the view goes, if the neighbour was inferred. What the
neighbour shows may be cut by an edge further on and go in its turn: each step leads the same way
and shows more, so the last one stays, and no object is lost.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.grid.tiles import Grid
from tasks.merge.compiled import compiled
from tasks.merge.verdicts import DEAD, KEPT, UNKNOWN

TOUCH = 2.0
"""How near to an edge a view touches it, px: detectors end a bit short of the edge."""

MARGIN, SLACK = 6.0, 1 / 8
"""How far before the neighbour's own edge a view has to end: px, and share of the overlap.

What does so in this tile's view ends more than TOUCH before that edge in the neighbour's, if in
both the end is off by no more than half of what the margin has over TOUCH: 2 px and 1/16 of the
overlap. So the neighbour's view does not count as cut there, and is not dropped for this tile's.
What is longer is left to `tasks.merge.cut.pieces`.
"""


class Tiling(NamedTuple):
    """A grid's tiles in arrays, for compiled functions.

    Attributes:
        columns: (c,) int64 first pixels of the tile columns.
        rows: (r,) int64 first pixels of the tile rows.
        width: Pixels of every tile in x.
        height: Pixels of every tile in y.
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


def cut(
    boxes: NDArray[np.float64],
    tiles: NDArray[np.int64],
    grid: Grid,
    inferred: NDArray[np.int8],
) -> NDArray[np.uint8]:
    """Drop each detection that an edge of its tile cuts and a tile beyond that edge shows whole.

    Edges of the image cut nothing: no tile lies beyond them. Where two edges cut, at a corner, any
    one of the three tiles there that was inferred shows more of the object than this one.

    Args:
        boxes: (n, 4) x_min, y_min, x_max, y_max in pixels of the full image.
        tiles: (n,) index in the grid of the tile that each was seen in.
        grid: The image's tiles.
        inferred: (len(grid),) 1 where a model looked at the tile, 0 where none did (failed, blank,
            outside of what is asked for), −1 where that is not known.

    Returns:
        (n,) DEAD, KEPT, or UNKNOWN where it depends on a tile of which nothing is known.
    """
    corners = np.ascontiguousarray(boxes, np.float64).reshape(-1, 4)
    verdicts = np.full(len(corners), KEPT, np.uint8)
    _cut(corners, tiles, Tiling.of(grid), inferred, verdicts)
    return verdicts


@compiled
def _cut(
    boxes: NDArray[np.float64],
    tiles: NDArray[np.int64],
    tiling: Tiling,
    inferred: NDArray[np.int8],
    verdicts: NDArray[np.uint8],
) -> None:
    across = len(tiling.columns)
    for place in range(len(tiles)):
        row, column = divmod(tiles[place], across)
        x_min, y_min, x_max, y_max = boxes[place]
        right = _towards_whole(x_min, x_max, tiling.columns, column, tiling.width)
        down = _towards_whole(y_min, y_max, tiling.rows, row, tiling.height)
        for to_right, to_below in ((right, 0), (0, down), (right, down)):
            if to_right == 0 and to_below == 0:
                continue
            known = inferred[(row + to_below) * across + column + to_right]
            if known == 1:
                verdicts[place] = DEAD
            elif known == -1 and verdicts[place] == KEPT:
                verdicts[place] = UNKNOWN


@compiled
def _towards_whole(
    low: float, high: float, starts: NDArray[np.int64], place: int, extent: float
) -> int:
    """Which neighbour along an axis shows whole what an edge cuts: −1 before, 1 after, 0 neither.

    Never both: what touches both edges reaches further than any two tiles overlap.
    """
    before, after = touches(low, high, starts, place, extent)
    start, stop = starts[place], starts[place] + extent
    if before and high - start < longest(starts[place - 1] + extent - start):
        return -1
    if after and stop - low < longest(stop - starts[place + 1]):
        return 1
    return 0


@compiled
def longest(overlap: float) -> float:
    """How far from an edge a view may reach, px, where the tile beyond overlaps so far."""
    return overlap - SLACK * overlap - MARGIN


@compiled
def touches(
    low: float, high: float, starts: NDArray[np.int64], place: int, extent: float
) -> tuple[bool, bool]:
    """Whether a view touches the edges before and after of its tile that have a tile beyond them.

    Args:
        low: Where the view starts along the axis, px of the full image.
        high: Where it ends.
        starts: (n,) first pixels of the tiles along the axis.
        place: The tile's place among them.
        extent: Pixels of every tile along the axis.
    """
    before = place > 0 and low <= starts[place] + TOUCH
    after = place < len(starts) - 1 and high >= starts[place] + extent - TOUCH
    return before, after
