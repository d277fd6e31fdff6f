"""How much two shapes have in common: compiled functions of the arrays of `tasks.merge.shapes`.

Each takes `shapes`, the tuple of a `Shapes`' arrays, and the places of two of them. What it gives
depends on the two shapes alone, to the last bit: neither on their places nor on their order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled
from tasks.merge.shapes.clipping import clipped_area, extent, meet

TOUCHING = 1e-9
"""Share of the smaller shape that rounding may take for common where surfaces only touch."""


@compiled
def intersection_area(shapes: Any, first: int, second: int) -> float:  # noqa: ANN401
    """Area that two shapes have in common, px²; 0 where they only touch."""
    bounds, parts = shapes[0], shapes[2]
    width = min(bounds[first, 2], bounds[second, 2]) - max(bounds[first, 0], bounds[second, 0])
    height = min(bounds[first, 3], bounds[second, 3]) - max(bounds[first, 1], bounds[second, 1])
    if not (width > 0 and height > 0):
        return 0.0
    if parts[first] == parts[first + 1] and parts[second] == parts[second + 1]:
        area: float = width * height
        return area
    common: float = _common_surface(shapes, first, second)
    return common


@compiled
def iou(shapes: Any, first: int, second: int) -> float:  # noqa: ANN401
    """Intersection over union of two shapes; 0 where they have no area in common."""
    common = intersection_area(shapes, first, second)
    if not common > 0:
        return 0.0
    areas = shapes[1]
    ratio: float = common / (areas[first] + areas[second] - common)
    return ratio


@compiled
def intersection_areas(
    shapes: Any,  # noqa: ANN401
    firsts: NDArray[np.int64],
    seconds: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(k,) areas that pairs of shapes, at two (k,) arrays of places, have in common, px²."""
    areas = np.empty(len(firsts))
    for pair in range(len(firsts)):
        areas[pair] = intersection_area(shapes, firsts[pair], seconds[pair])
    return areas


@compiled
def _common_surface(shapes: Any, first: int, second: int) -> float:  # noqa: ANN401
    """Area that two shapes have in common of which one at least has parts."""
    areas = shapes[1]
    order = _compare(shapes, first, second)
    if order == 0:
        same: float = areas[first]
        return same
    common = _sum_parts(shapes, first, second) if order < 0 else _sum_parts(shapes, second, first)
    smaller = min(areas[first], areas[second])
    if not common > TOUCHING * smaller:
        return 0.0
    area: float = min(common, smaller)
    return area


@compiled
def _compare(shapes: Any, first: int, second: int) -> int:  # noqa: ANN401
    """Which of two shapes is clipped by the other: the first (−1), the second (1); 0: the same."""
    bounds, _, parts, corners, points = shapes
    for side in range(4):
        if bounds[first, side] != bounds[second, side]:
            return -1 if bounds[first, side] < bounds[second, side] else 1
    start, other = corners[parts[first]], corners[parts[second]]
    size = corners[parts[first + 1]] - start
    longer = size - (corners[parts[second + 1]] - other)
    if longer != 0:
        return -1 if longer < 0 else 1
    for corner in range(size):
        for axis in range(2):
            mine, yours = points[start + corner, axis], points[other + corner, axis]
            if mine != yours:
                return -1 if mine < yours else 1
    return 0


@compiled
def _sum_parts(shapes: Any, first: int, second: int) -> float:  # noqa: ANN401
    """Area in common, summed over the pairs of parts whose bounds meet.

    Points count from a corner of the first's bounds: far from the image's origin there is too
    little precision left for products.
    """
    bounds, _, parts, corners, points = shapes
    x, y = bounds[first, 0], bounds[first, 1]
    end = parts[second + 1]
    room = 8 + corners[parts[first + 1]] - corners[parts[first]] + corners[end]
    room -= corners[parts[second]]
    work = np.empty((4 * room, 2))  # the subject, what is left of it, the same again, the clip
    total, begin = 0.0, 0
    for part in range(max(1, parts[first + 1] - parts[first])):
        size = _load(shapes, first, part, x, y, work, 0)
        box = extent(work, 0, size)
        for other in range(begin, max(1, end - parts[second])):
            if end > parts[second] and points[corners[parts[second] + other], 0] - x >= box[2]:
                break  # it begins right of the part, and so do all that follow
            edges = _load(shapes, second, other, x, y, work, 3 * room)
            clip = extent(work, 3 * room, edges)
            if other == begin and clip[2] <= box[0]:
                begin += 1  # it ends left of the part, and of all that follow
            elif meet(box, clip):
                total += clipped_area(work, room, size, edges)
    return total


@compiled
def _load(  # noqa: PLR0917 - compiled functions take what they need in place
    shapes: Any,  # noqa: ANN401
    place: int,
    part: int,
    x: float,
    y: float,
    work: NDArray[np.float64],
    at: int,
) -> int:
    """Write the corners of a shape's part, as seen from x, y; an upright box is one part of four.

    Returns:
        How many there are.
    """
    bounds, _, parts, corners, points = shapes
    if parts[place] == parts[place + 1]:
        for corner in range(4):
            work[at + corner, 0] = bounds[place, 2 if corner in (1, 2) else 0] - x
            work[at + corner, 1] = bounds[place, 3 if corner >= 2 else 1] - y
        return 4
    start = corners[parts[place] + part]
    size: int = corners[parts[place] + part + 1] - start
    for corner in range(size):
        work[at + corner, 0] = points[start + corner, 0] - x
        work[at + corner, 1] = points[start + corner, 1] - y
    return size
