"""Objects larger than the overlap of tiles: of the views that the tiles have, the largest stays.

No tile need show such an object whole. But two tiles that overlap have both looked at the ground
they share, and of one object they show the same there, however much of it lies outside. So views
are compared on that ground alone. Intersection over the smaller view would also drop a small object
that stands in the box of a large one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.grid.tiles import Grid
from tasks.merge.compiled import compiled, inlined
from tasks.merge.cut.edges import Tiling, touches
from tasks.merge.shapes import Shapes
from tasks.merge.shapes.overlap import intersection_area
from tasks.merge.verdicts import DEAD, KEPT, UNKNOWN

AGREED = 0.6
"""Intersection over union on common ground of which two views are of one object.

Lower, and large objects whose boxes cross are lost; higher, and detectors whose boxes are a few
percent off leave duplicates: `tests/benchmarks/test_cut_objects.py` measures both.
"""


class _Views(NamedTuple):
    """The detections; the last of the shapes is none of them, but the ground of two tiles."""

    shapes: Any
    labels: NDArray[np.int64]
    tiles: NDArray[np.int64]
    verdicts: NDArray[np.uint8]


class _Visited(NamedTuple):
    """What was visited and may stay: that of tile t is places[starts[t] : stops[t]]."""

    places: NDArray[np.int64]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]


def pieces(  # noqa: PLR0917 - the detections, where they were seen, and what is known of them
    shapes: Shapes,
    labels: NDArray[np.int64],
    scores: NDArray[np.float64],
    tiles: NDArray[np.int64],
    grid: Grid,
    verdicts: NDArray[np.uint8],
    iou: float = AGREED,
) -> NDArray[np.uint8]:
    """Drop each detection cut by an edge of its tile of which another tile shows a larger part.

    Detections are visited by area, the largest first, ties by score, highest first, then by index.
    One that touches an edge of its tile with a tile beyond it goes if one of its label that was
    visited before, of another tile, and stays, agrees with it on the ground that both tiles cover:
    their intersection over union there is above a threshold.

    What stays in doubt can be decided later without the rest: the second call takes those that are
    UNKNOWN here and stay in the meantime, and both together keep what one call over all keeps. For
    that, one that stays for certain is UNKNOWN too where it will drop one that came in as such.

    Args:
        shapes: What the detections show, each clipped to its tile.
        labels: (n,) classes; detections of two labels never meet.
        scores: (n,) higher is better.
        tiles: (n,) index in the grid of the tile that each was seen in.
        grid: The image's tiles.
        verdicts: (n,) what earlier rules say: the DEAD are not there and the UNKNOWN may not be.
        iou: Intersection over union on the common ground, above which two are one object.

    Returns:
        (n,) DEAD, KEPT or UNKNOWN; DEAD and UNKNOWN stay what they are.
    """
    there = np.flatnonzero(verdicts != DEAD)
    order = there[np.lexsort((-scores[there], -shapes.areas[there]))]
    sizes = np.bincount(tiles[there], minlength=len(grid))
    starts = np.cumsum(sizes) - sizes
    visited = _Visited(np.empty_like(order), starts, starts.copy())
    views = _Views(_with_ground(shapes).arrays, labels, tiles, verdicts.copy())
    needed = _visit(order, views, Tiling.of(grid), visited, iou)
    return np.where(needed, UNKNOWN, views.verdicts).astype(np.uint8, copy=False)


def _with_ground(shapes: Shapes) -> Shapes:
    """The shapes and one more at the end: an upright box, to lay wherever two tiles overlap."""
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
    """Decide in the order given; tell which stay that will drop what came in as unknown."""
    verdicts = views.verdicts
    needed = np.zeros(len(verdicts), np.bool_)
    for place in order:
        if _is_cut(views, tiling, place):
            larger = _larger(views, tiling, visited, place, iou)
            if larger >= 0 and verdicts[larger] == UNKNOWN:
                verdicts[place] = UNKNOWN
            elif larger >= 0 and verdicts[place] == UNKNOWN:
                needed[larger] = True
            elif larger >= 0:
                verdicts[place] = DEAD
                continue
        tile = views.tiles[place]
        visited.places[visited.stops[tile]] = place
        visited.stops[tile] += 1
    return needed


@compiled
def _is_cut(views: _Views, tiling: Tiling, place: int) -> bool:
    """Whether a view touches an edge of its tile with a tile beyond it."""
    row, column = divmod(views.tiles[place], len(tiling.columns))
    x_min, y_min, x_max, y_max = views.shapes[0][place]
    left, right = touches(x_min, x_max, tiling.columns, column, tiling.width)
    top, bottom = touches(y_min, y_max, tiling.rows, row, tiling.height)
    return bool(left or right or top or bottom)


@compiled
def _larger(views: _Views, tiling: Tiling, visited: _Visited, place: int, iou: float) -> int:
    """A view of the same object in another tile: one that stays, else one in doubt, else −1.

    Where the view itself is in doubt, only one that stays is looked for.
    """
    x_min, y_min, x_max, y_max = views.shapes[0][place]
    in_doubt = -1
    for row in range(*_between(tiling.rows, tiling.height, y_min, y_max)):
        for column in range(*_between(tiling.columns, tiling.width, x_min, x_max)):
            tile = row * len(tiling.columns) + column
            if tile == views.tiles[place] or visited.starts[tile] == visited.stops[tile]:
                continue
            _lay_ground(views, tiling, tile, views.tiles[place])
            on_ground = intersection_area(views.shapes, place, len(views.tiles))
            for slot in range(visited.starts[tile], visited.stops[tile]):
                other = visited.places[slot]
                stays = views.verdicts[other] == KEPT
                asked = stays or (in_doubt < 0 and views.verdicts[place] == KEPT)
                if not asked or not _may_agree(views, place, other):
                    continue
                if _agreement(views, place, other, on_ground) > iou:
                    if stays:
                        return int(other)
                    in_doubt = other
    return in_doubt


@inlined
def _may_agree(views: _Views, first: int, second: int) -> bool:
    """Whether two views are of one label and their bounds meet."""
    bounds = views.shapes[0]
    for axis in range(2):
        if bounds[first, axis] >= bounds[second, axis + 2]:
            return False
        if bounds[second, axis] >= bounds[first, axis + 2]:
            return False
    return bool(views.labels[first] == views.labels[second])


@compiled
def _between(starts: NDArray[np.int64], extent: float, low: float, high: float) -> tuple[int, int]:
    """The tiles along an axis with any pixels between two places: the first, one after the last."""
    first = int(np.searchsorted(starts, low - extent, side="right"))
    return first, int(np.searchsorted(starts, high, side="left"))


@compiled
def _lay_ground(views: _Views, tiling: Tiling, tile: int, other: int) -> None:
    """Make the last shape the ground that two tiles share."""
    row, column = divmod(tile, len(tiling.columns))
    other_row, other_column = divmod(other, len(tiling.columns))
    box, areas = views.shapes[0][-1], views.shapes[1]
    box[0] = max(tiling.columns[column], tiling.columns[other_column])
    box[1] = max(tiling.rows[row], tiling.rows[other_row])
    box[2] = min(tiling.columns[column], tiling.columns[other_column]) + tiling.width
    box[3] = min(tiling.rows[row], tiling.rows[other_row]) + tiling.height
    areas[-1] = (box[2] - box[0]) * (box[3] - box[1])


@compiled
def _agreement(views: _Views, first: int, second: int, first_on_ground: float) -> float:
    """Intersection over union of two views on the ground that is the last shape."""
    common = intersection_area(views.shapes, first, second)
    if not common > 0:
        return 0.0
    second_on_ground = intersection_area(views.shapes, second, len(views.tiles))
    ratio: float = common / (first_on_ground + second_on_ground - common)
    return ratio
