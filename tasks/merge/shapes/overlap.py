"""The area that two shapes share: compiled functions of the arrays of `Shapes`.

Each function takes `shapes`, the tuple `Shapes.arrays`, and the indices of two shapes. The result
depends on the two shapes alone, to the last bit: neither on their indices nor on their order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled
from tasks.merge.shapes.clipping import bounds_of, clipped_area, overlap

ROUNDING = 1e-9
"""Share of the smaller shape's area up to which a shared area counts as 0: it is rounding."""


@compiled
def intersection_area(shapes: Any, first: int, second: int) -> float:  # noqa: ANN401
    """Area that two shapes share, px²; 0 if they only touch."""
    bounds, parts = shapes[0], shapes[2]
    width = min(bounds[first, 2], bounds[second, 2]) - max(bounds[first, 0], bounds[second, 0])
    height = min(bounds[first, 3], bounds[second, 3]) - max(bounds[first, 1], bounds[second, 1])
    if not (width > 0 and height > 0):
        return 0.0
    if parts[first] == parts[first + 1] and parts[second] == parts[second + 1]:
        area: float = width * height
        return area
    common: float = _intersection_of_parts(shapes, first, second)
    return common


@compiled
def iou(shapes: Any, first: int, second: int) -> float:  # noqa: ANN401
    """Intersection over union of two shapes; 0 if they share no area."""
    ratio: float = overlap_ratio(shapes, first, second, False)
    return ratio


@compiled
def overlap_ratio(shapes: Any, first: int, second: int, of_smaller: bool) -> float:  # noqa: ANN401
    """Intersection of two shapes over the smaller of both, or over their union; 0 if none."""
    common = intersection_area(shapes, first, second)
    if not common > 0:
        return 0.0
    areas = shapes[1]
    if of_smaller:
        ratio: float = common / min(areas[first], areas[second])
    else:
        ratio = common / (areas[first] + areas[second] - common)
    return ratio


@compiled
def _intersection_of_parts(shapes: Any, first: int, second: int) -> float:  # noqa: ANN401
    """Area that two shapes share, at least one of which has parts."""
    areas = shapes[1]
    order = _compare(shapes, first, second)
    if order == 0:
        same: float = areas[first]
        return same
    common = _sum_parts(shapes, first, second) if order < 0 else _sum_parts(shapes, second, first)
    smaller = min(areas[first], areas[second])
    if not common > ROUNDING * smaller:
        return 0.0
    area: float = min(common, smaller)
    return area


@compiled
def _compare(shapes: Any, first: int, second: int) -> int:  # noqa: ANN401
    """Order two shapes by their coordinates: −1 or 1, and 0 if they are identical."""
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
            one, two = points[start + corner, axis], points[other + corner, axis]
            if one != two:
                return -1 if one < two else 1
    return 0


@compiled
def _sum_parts(shapes: Any, first: int, second: int) -> float:  # noqa: ANN401
    """Shared area, summed over the pairs of parts whose bounds overlap.

    Coordinates are relative to a corner of the first shape's bounds: far from the image's origin,
    products of coordinates would lose too much precision.
    """
    bounds, _, parts, corners, points = shapes
    x, y = bounds[first, 0], bounds[first, 1]
    end = parts[second + 1]
    room = 8 + corners[parts[first + 1]] - corners[parts[first]] + corners[end]
    room -= corners[parts[second]]
    work = np.empty((4 * room, 2))  # the part to clip, two buffers for the result, the clip
    total, begin = 0.0, 0
    for part in range(max(1, parts[first + 1] - parts[first])):
        size = _load(shapes, first, part, x, y, work, 0)
        box = bounds_of(work, 0, size)
        for other in range(begin, max(1, end - parts[second])):
            if end > parts[second] and points[corners[parts[second] + other], 0] - x >= box[2]:
                break  # it and all that follow start to the right of the part
            edges = _load(shapes, second, other, x, y, work, 3 * room)
            clip = bounds_of(work, 3 * room, edges)
            if other == begin and clip[2] <= box[0]:
                begin += 1  # it ends to the left of this part and of all that follow
            elif overlap(box, clip):
                total += clipped_area(work, room, size, edges)
    return total


@compiled
def _load(  # noqa: PLR0917 - compiled functions take what they need in place
    shapes: Any,  # noqa: ANN401
    index: int,
    part: int,
    x: float,
    y: float,
    work: NDArray[np.float64],
    at: int,
) -> int:
    """Write the corners of a part, relative to x, y; an upright box is one part of 4 corners.

    Returns:
        The number of corners.
    """
    bounds, _, parts, corners, points = shapes
    if parts[index] == parts[index + 1]:
        for corner in range(4):
            work[at + corner, 0] = bounds[index, 2 if corner in (1, 2) else 0] - x
            work[at + corner, 1] = bounds[index, 3 if corner >= 2 else 1] - y
        return 4
    start = corners[parts[index] + part]
    size: int = corners[parts[index] + part + 1] - start
    for corner in range(size):
        work[at + corner, 0] = points[start + corner, 0] - x
        work[at + corner, 1] = points[start + corner, 1] - y
    return size
