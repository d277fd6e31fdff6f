"""How well two tiles' views agree within the area that both tiles show.

Two overlapping tiles both show the area that they share, and in it the same part of an object,
however much of the object lies outside. So two views are compared within that area alone.
Intersection over the smaller view would not do: it also drops a small object that lies in the box
of a large one.

If both views are upright boxes, that part of the object is not known. An upright object fills its
box. A diagonal one runs from one corner of its box to the opposite one, and the boxes of its two
pieces share only a corner of the area: what of the object each box can hold within the area is
computed, and compared.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled
from tasks.merge.cut_objects.views import Views
from tasks.merge.shapes.overlap import intersection_area

_THICKNESSES = (0.0, 1 / 32, 1 / 16, 1 / 8, 1 / 4)
"""Widths of diagonal objects that are tried, as shares of the shorter box."""

Box = tuple[float, float, float, float]  # x_min, y_min, x_max, y_max


@compiled
def agreement(views: Views, first: int, second: int) -> float:
    """Intersection over union of what two views show within the shared area, 0 to 1.

    Args:
        views: All views; the last shape is the area that the two views' tiles share.
        first: Index of a view.
        second: Index of the other.
    """
    straight = _shared_iou(views, first, second)
    parts = views.shapes[2]
    outlined = parts[first] < parts[first + 1] or parts[second] < parts[second + 1]
    if straight == 0 or outlined:
        return straight
    bounds = views.shapes[0]
    diagonal: float = _diagonal_iou(bounds[first], bounds[second], bounds[-1])
    return max(straight, diagonal)


@compiled
def _shared_iou(views: Views, first: int, second: int) -> float:
    common = intersection_area(views.shapes, first, second)
    if not common > 0:
        return 0.0
    area = len(views.tiles)
    first_area = intersection_area(views.shapes, first, area)
    second_area = intersection_area(views.shapes, second, area)
    ratio: float = common / (first_area + second_area - common)
    return ratio


@compiled
def _diagonal_iou(
    first: NDArray[np.float64], second: NDArray[np.float64], area: NDArray[np.float64]
) -> float:
    """The highest IoU within an area of diagonal objects that fill two boxes, (4,) each.

    Objects in both directions and of several thicknesses are tried, the same for both boxes.
    """
    across = max(first[2], second[2]) - min(first[0], second[0])
    down = max(first[3], second[3]) - min(first[1], second[1])
    steep = down > across
    best = 0.0
    for falling in (False, True):
        one, other = _turned(first, steep, falling), _turned(second, steep, falling)
        limits = _turned(area, steep, falling)
        least = min(one[3] - one[1], other[3] - other[1])
        for share in _THICKNESSES:
            thickness = share * least
            best = max(best, _iou(_part(one, limits, thickness), _part(other, limits, thickness)))
    return best


@compiled
def _turned(box: NDArray[np.float64], steep: bool, falling: bool) -> Box:
    """A box with x and y exchanged, and then with y reversed."""
    x_min, y_min, x_max, y_max = box[0], box[1], box[2], box[3]
    if steep:
        x_min, y_min, x_max, y_max = y_min, x_min, y_max, x_max
    if falling:
        y_min, y_max = -y_max, -y_min
    return x_min, y_min, x_max, y_max


@compiled
def _part(box: Box, area: Box, thickness: float) -> Box:
    """Bounds of the part within an area of the band from a box's first corner to its last.

    Args:
        box: The band begins with the side x_min and ends with the side x_max.
        area: The part outside does not count.
        thickness: Of the band along y, px.
    """
    rise = box[3] - box[1] - thickness
    slope = rise / (box[2] - box[0])
    left, right = max(box[0], area[0]), min(box[2], area[2])
    if rise > 0:
        left = max(left, box[0] + (area[1] - thickness - box[1]) / slope)
        right = min(right, box[0] + (area[3] - box[1]) / slope)
    low = max(area[1], box[1] + (left - box[0]) * slope)
    high = min(area[3], box[1] + (right - box[0]) * slope + thickness)
    return left, low, right, high


@compiled
def _iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes; 0 if they share no area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if not (width > 0 and height > 0):
        return 0.0
    common = width * height
    first = (one[2] - one[0]) * (one[3] - one[1])
    return common / (first + (other[2] - other[0]) * (other[3] - other[1]) - common)
