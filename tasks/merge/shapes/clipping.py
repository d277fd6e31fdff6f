"""The area of one convex polygon within another: compiled functions.

All polygons are in one array of corners, (rows, 2). A polygon is given by its first row and its
number of corners, so that no function allocates memory.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled

Rectangle = tuple[float, float, float, float]  # x_min, y_min, x_max, y_max


@compiled
def bounds_of(work: NDArray[np.float64], at: int, size: int) -> Rectangle:
    """Bounds of the polygon of `size` corners that starts in row `at`."""
    x_min, y_min = work[at, 0], work[at, 1]
    x_max, y_max = x_min, y_min
    for corner in range(at + 1, at + size):
        x_min, x_max = min(x_min, work[corner, 0]), max(x_max, work[corner, 0])
        y_min, y_max = min(y_min, work[corner, 1]), max(y_max, work[corner, 1])
    return x_min, y_min, x_max, y_max


@compiled
def overlap(box: Rectangle, other: Rectangle) -> bool:
    """Whether two boxes share an area."""
    across: bool = box[0] < other[2] and other[0] < box[2]
    return across and box[1] < other[3] and other[1] < box[3]


@compiled
def clipped_area(work: NDArray[np.float64], room: int, size: int, edges: int) -> float:
    """Area of a convex polygon within another (Sutherland & Hodgman, CACM 17, 1974).

    Args:
        work: (4 * room, 2) the polygon from row 0 on and the other from row 3 * room on, both
            counter-clockwise; the rows between are overwritten.
        room: At least the number of corners of both polygons together.
        size: Number of corners of the polygon.
        edges: Number of corners of the other.
    """
    here, there = 0, room
    before = 3 * room + edges - 1
    for edge in range(3 * room, 3 * room + edges):
        size = _clip(work, here, size, before, edge, there)
        if size < 3:
            return 0.0
        before, here, there = edge, there, room if there > room else 2 * room
    return _area(work, here, size)


@compiled
def _clip(  # noqa: PLR0917 - compiled functions take what they need in place
    work: NDArray[np.float64], here: int, size: int, start: int, end: int, there: int
) -> int:
    """Write the part of a polygon that lies left of a line; return its number of corners.

    A line crosses a convex polygon at most twice; further crossings, which come from rounding, are
    ignored. So the result has at most one corner more than the polygon.

    Args:
        work: All polygons.
        here: First row of the polygon.
        size: Its number of corners.
        start: Row of the line's first point.
        end: Row of its second point.
        there: First row of the result.
    """
    x, y = work[start, 0], work[start, 1]
    dx, dy = work[end, 0] - x, work[end, 1] - y
    x_before, y_before = work[here + size - 1, 0], work[here + size - 1, 1]
    depth_before = dx * (y_before - y) - dy * (x_before - x)
    written, crossings = there, 0
    for corner in range(here, here + size):
        x_here, y_here = work[corner, 0], work[corner, 1]
        depth = dx * (y_here - y) - dy * (x_here - x)
        if (depth >= 0) != (depth_before >= 0) and crossings < 2:
            share = depth_before / (depth_before - depth)
            work[written, 0] = x_before + share * (x_here - x_before)
            work[written, 1] = y_before + share * (y_here - y_before)
            written, crossings = written + 1, crossings + 1
        if depth >= 0:
            work[written, 0], work[written, 1] = x_here, y_here
            written += 1
        x_before, y_before, depth_before = x_here, y_here, depth
    return written - there


@compiled
def _area(work: NDArray[np.float64], here: int, size: int) -> float:
    doubled = 0.0
    x, y = work[here, 0], work[here, 1]
    for corner in range(here + 1, here + size - 1):
        doubled += (work[corner, 0] - x) * (work[corner + 1, 1] - y)
        doubled -= (work[corner, 1] - y) * (work[corner + 1, 0] - x)
    return doubled / 2
