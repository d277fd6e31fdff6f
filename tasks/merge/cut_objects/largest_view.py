"""Objects larger than the overlap of tiles: of all tiles' views, the largest stays.

No tile may show such an object whole. But two overlapping tiles both show the area that they share,
and in it the same part of the object, however much of the object lies outside. So two views are
compared within that area alone. Intersection over the smaller view would not do: it
also drops a small object that lies in the box of a large one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.grid.tiles import Grid
from tasks.merge.compiled import compiled, inlined
from tasks.merge.cut_objects.edges import Tiling, touches
from tasks.merge.deferral import DROPPED, KEPT, UNDECIDED
from tasks.merge.shapes import Shapes
from tasks.merge.shapes.overlap import intersection_area

SHARED_IOU = 0.6
"""Intersection over union within the shared area above which two views are of one object.

A lower value loses large objects whose boxes cross; a higher one leaves duplicates of detectors
whose boxes are a few percent off: `tests/benchmarks/test_cut_objects.py` measures both.
"""


class _Views(NamedTuple):
    """The detections; `shapes` has one more shape at the end, the shared area of two tiles."""

    shapes: Any
    labels: NDArray[np.int64]
    tiles: NDArray[np.int64]
    decisions: NDArray[np.uint8]


class _Visited(NamedTuple):
    """Views visited so far that are not dropped; tile t has indices[starts[t] : stops[t]]."""

    indices: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


def keep_largest_views(  # noqa: PLR0917 - the columns of the detections
    shapes: Shapes,
    labels: NDArray[np.int64],
    scores: NDArray[np.float64],
    tiles: NDArray[np.int64],
    grid: Grid,
    decisions: NDArray[np.uint8],
    iou: float = SHARED_IOU,
) -> NDArray[np.uint8]:
    """Drop each detection that an edge of its tile cuts if another tile shows a larger part.

    Detections are visited by area, largest first, ties by score, highest first, then by index. A
    detection that touches an edge with a tile beyond it is dropped if a detection visited before,
    of the same label, from another tile and not dropped, matches it within the area that both tiles
    cover: their intersection over union there is above a threshold.

    UNDECIDED detections can be decided later without the others: in a second call, with those that
    are UNDECIDED here and that no other rule dropped in between. Both calls together keep the same
    detections as one call for all. For that, a detection that would be KEPT is UNDECIDED if it may
    drop a detection that was UNDECIDED in `decisions`.

    Args:
        shapes: n shapes of the detections, each clipped to its tile.
        labels: (n,) classes; detections of different labels are never compared.
        scores: (n,) higher is better.
        tiles: (n,) index in the grid of each detection's tile.
        grid: The image's tiles.
        decisions: (n,) of the earlier rules: DROPPED detections are ignored, UNDECIDED ones may
            still be dropped by them.
        iou: Intersection over union within the shared area above which two views are one object.

    Returns:
        (n,) DROPPED, KEPT or UNDECIDED; DROPPED and UNDECIDED ones are unchanged.
    """
    present = np.flatnonzero(decisions != DROPPED)
    order = present[np.lexsort((-scores[present], -shapes.areas[present]))]
    sizes = np.bincount(tiles[present], minlength=len(grid))
    starts = np.cumsum(sizes) - sizes
    visited = _Visited(np.empty_like(order), starts, starts.copy())
    views = _Views(_with_shared_area(shapes).arrays, labels, tiles, decisions.copy())
    needed = _visit(order, views, Tiling.of(grid), visited, iou)
    return np.where(needed, UNDECIDED, views.decisions).astype(np.uint8, copy=False)


def _with_shared_area(shapes: Shapes) -> Shapes:
    """The shapes and an upright box at the end, to be set to the shared area of two tiles."""
    return replace(
        shapes,
        bounds=np.concatenate([shapes.bounds, np.zeros((1, 4))]),
        areas=np.append(shapes.areas, 0.0),
        parts=np.append(shapes.parts, shapes.parts[-1]),
    )


@compiled
def _visit(
    order: NDArray[np.int64], views: _Views, tiling: Tiling, visited: _Visited, iou: float
) -> NDArray[np.bool_]:
    """Decide the views in order; return which KEPT ones will drop one that was UNDECIDED before."""
    decisions = views.decisions
    needed = np.zeros(len(decisions), np.bool_)
    for index in order:
        if _is_cut(views, tiling, index):
            larger = _larger(views, tiling, visited, index, iou)
            if larger >= 0 and decisions[larger] == UNDECIDED:
                decisions[index] = UNDECIDED
            elif larger >= 0 and decisions[index] == UNDECIDED:
                needed[larger] = True
            elif larger >= 0:
                decisions[index] = DROPPED
                continue
        tile = views.tiles[index]
        visited.indices[visited.stops[tile]] = index
        visited.stops[tile] += 1
    return needed


@compiled
def _is_cut(views: _Views, tiling: Tiling, index: int) -> bool:
    """Whether a view touches an edge of its tile with a tile beyond it."""
    row, column = divmod(views.tiles[index], len(tiling.columns))
    x_min, y_min, x_max, y_max = views.shapes[0][index]
    left, right = touches(x_min, x_max, tiling.columns, column, tiling.width)
    top, bottom = touches(y_min, y_max, tiling.rows, row, tiling.height)
    return bool(left or right or top or bottom)


@compiled
def _larger(views: _Views, tiling: Tiling, visited: _Visited, index: int, iou: float) -> int:
    """A visited view of the same object in another tile: KEPT, else UNDECIDED; −1 if there is none.

    For a view that is UNDECIDED itself, only a KEPT one is searched.
    """
    x_min, y_min, x_max, y_max = views.shapes[0][index]
    undecided = -1
    for row in range(*_between(tiling.rows, tiling.height, y_min, y_max)):
        for column in range(*_between(tiling.columns, tiling.width, x_min, x_max)):
            tile = row * len(tiling.columns) + column
            if tile == views.tiles[index] or visited.starts[tile] == visited.stops[tile]:
                continue
            _set_shared_area(views, tiling, tile, views.tiles[index])
            area = intersection_area(views.shapes, index, len(views.tiles))
            for slot in range(visited.starts[tile], visited.stops[tile]):
                other = visited.indices[slot]
                kept = views.decisions[other] == KEPT
                relevant = kept or (undecided < 0 and views.decisions[index] == KEPT)
                if not relevant or not _may_match(views, index, other):
                    continue
                if _shared_iou(views, index, other, area) > iou:
                    if kept:
                        return int(other)
                    undecided = other
    return undecided


@inlined
def _may_match(views: _Views, first: int, second: int) -> bool:
    """Whether two views have the same label and their bounds overlap."""
    bounds = views.shapes[0]
    for axis in range(2):
        if bounds[first, axis] >= bounds[second, axis + 2]:
            return False
        if bounds[second, axis] >= bounds[first, axis + 2]:
            return False
    return bool(views.labels[first] == views.labels[second])


@compiled
def _between(starts: NDArray[np.int64], extent: float, low: float, high: float) -> tuple[int, int]:
    """The tiles along an axis that overlap low to high: the first, and the last + 1."""
    first = int(np.searchsorted(starts, low - extent, side="right"))
    return first, int(np.searchsorted(starts, high, side="left"))


@compiled
def _set_shared_area(views: _Views, tiling: Tiling, tile: int, other: int) -> None:
    """Set the last shape to the area that two tiles share."""
    row, column = divmod(tile, len(tiling.columns))
    other_row, other_column = divmod(other, len(tiling.columns))
    box, areas = views.shapes[0][-1], views.shapes[1]
    box[0] = max(tiling.columns[column], tiling.columns[other_column])
    box[1] = max(tiling.rows[row], tiling.rows[other_row])
    box[2] = min(tiling.columns[column], tiling.columns[other_column]) + tiling.width
    box[3] = min(tiling.rows[row], tiling.rows[other_row]) + tiling.height
    areas[-1] = (box[2] - box[0]) * (box[3] - box[1])


@compiled
def _shared_iou(views: _Views, first: int, second: int, first_area: float) -> float:
    """Intersection over union of two views within the area that is the last shape.

    Args:
        views: All views.
        first: Index of a view.
        second: Index of the other.
        first_area: Area of the first within the shared area, px².
    """
    common = intersection_area(views.shapes, first, second)
    if not common > 0:
        return 0.0
    second_area = intersection_area(views.shapes, second, len(views.tiles))
    ratio: float = common / (first_area + second_area - common)
    return ratio
