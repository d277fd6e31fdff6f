"""Views of objects, as arrays for compiled functions, and what their tiles show of them.

A view is what one tile shows of an object: a detection.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled, inlined
from tasks.merge.cut_objects.edges import Tiling, touches
from tasks.merge.shapes import Shapes

Indices = NDArray[np.int64]


class Views(NamedTuple):
    """The n detections of an image, some of which are present.

    Attributes:
        shapes: The arrays of their shapes, and of one more at the end: the shared area of two
            tiles.
        labels: (n,) classes.
        tiles: (n,) index in the grid of each one's tile.
        ranks: (n,) position of each among those present, by area, largest first.
        present: (m,) those present, sorted by tile and then by rank.
        starts: (len(grid) + 1,) those of tile t are present[starts[t] : starts[t + 1]].
    """

    shapes: Any
    labels: Indices
    tiles: Indices
    ranks: Indices
    present: Indices
    starts: Indices


def views_of(
    shapes: Shapes, labels: Indices, tiles: Indices, by_area: Indices, count: int
) -> Views:
    """The views of an image.

    Args:
        shapes: n shapes of the detections, each clipped to its tile.
        labels: (n,) classes.
        tiles: (n,) index in the grid of each detection's tile.
        by_area: (m,) those present, largest first.
        count: Number of tiles of the grid.
    """
    ranks = np.full(len(shapes), len(by_area))
    ranks[by_area] = np.arange(len(by_area))
    present = by_area[np.argsort(tiles[by_area], kind="stable")]
    starts = np.searchsorted(tiles[present], np.arange(count + 1))
    return Views(_with_shared_area(shapes).arrays, labels, tiles, ranks, present, starts)


def _with_shared_area(shapes: Shapes) -> Shapes:
    """The shapes and an upright box at the end, to be set to the shared area of two tiles."""
    return replace(
        shapes,
        bounds=np.concatenate([shapes.bounds, np.zeros((1, 4))]),
        areas=np.append(shapes.areas, 0.0),
        parts=np.append(shapes.parts, shapes.parts[-1]),
    )


@compiled
def is_cut(views: Views, tiling: Tiling, index: int, other: int, either: bool) -> bool:
    """Whether an edge of its tile cuts a view that another tile's view shows more of.

    The edge has a tile beyond it. It does not lie away from the other tile, unless both end there.

    Args:
        views: All views.
        tiling: The tiles.
        index: Of the view.
        other: Index of the other tile's view.
        either: Whether it is enough that the other view reaches the edge.
    """
    row, column = divmod(views.tiles[index], len(tiling.columns))
    other_row, other_column = divmod(views.tiles[other], len(tiling.columns))
    x_min, y_min, x_max, y_max = views.shapes[0][index]
    if either:
        low_x, low_y, high_x, high_y = views.shapes[0][other]
        x_min, y_min, x_max, y_max = (
            min(x_min, low_x), min(y_min, low_y), max(x_max, high_x), max(y_max, high_y)
        )  # fmt: skip
    left, right = touches(x_min, x_max, tiling.columns, column, tiling.width)
    top, bottom = touches(y_min, y_max, tiling.rows, row, tiling.height)
    across = (left and other_column <= column) or (right and other_column >= column)
    return bool(across or (top and other_row <= row) or (bottom and other_row >= row))


@inlined
def overlap(views: Views, first: int, second: int) -> bool:
    """Whether two views have the same label and their bounds overlap."""
    bounds = views.shapes[0]
    for axis in range(2):
        if bounds[first, axis] >= bounds[second, axis + 2]:
            return False
        if bounds[second, axis] >= bounds[first, axis + 2]:
            return False
    return bool(views.labels[first] == views.labels[second])


@compiled
def between(starts: Indices, extent: float, low: float, high: float) -> tuple[int, int]:
    """The tiles along an axis that overlap low to high: the first, and the last + 1."""
    first = int(np.searchsorted(starts, low - extent, side="right"))
    return first, int(np.searchsorted(starts, high, side="left"))


@compiled
def set_shared_area(views: Views, tiling: Tiling, tile: int, other: int) -> None:
    """Set the last shape to the area that two tiles share."""
    row, column = divmod(tile, len(tiling.columns))
    other_row, other_column = divmod(other, len(tiling.columns))
    box, areas = views.shapes[0][-1], views.shapes[1]
    box[0] = max(tiling.columns[column], tiling.columns[other_column])
    box[1] = max(tiling.rows[row], tiling.rows[other_row])
    box[2] = min(tiling.columns[column], tiling.columns[other_column]) + tiling.width
    box[3] = min(tiling.rows[row], tiling.rows[other_row]) + tiling.height
    areas[-1] = (box[2] - box[0]) * (box[3] - box[1])
