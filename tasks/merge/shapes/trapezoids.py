"""Polygons cut into trapezoids with two vertical sides, which do not overlap.

GEOS's triangulation cannot be used: it refuses polygons whose holes touch, which are common in
polygons made from pixel masks.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from tasks.merge.compiled import compiled


def trapezoids(
    polygons: NDArray[np.object_],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Cut polygons into trapezoids with two vertical sides (de Berg et al., 2008, chapter 6).

    Args:
        polygons: (n,) valid polygons and multi-polygons.

    Returns:
        (t,) the index of each trapezoid's polygon; (t, 4, 2) its corners x, y, counter-clockwise
        with x to the right and y up, from the lower left one. A side may have no length.
    """
    owners, edges = _edges(polygons)
    starts = np.searchsorted(owners, np.arange(len(polygons) + 1))
    lower, upper, left, right = _sweep_all(starts, edges)
    corners = [
        (left, _height(edges[lower], left)),
        (right, _height(edges[lower], right)),
        (right, _height(edges[upper], right)),
        (left, _height(edges[upper], left)),
    ]
    return owners[lower], np.array(corners).transpose(2, 0, 1)


def _edges(polygons: NDArray[np.object_]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """All edges that are not vertical: (e,) polygons, (e, 4) x, y, x, y from left to right."""
    parts, indices = shapely.get_parts(polygons, return_index=True)
    rings, of = shapely.get_rings(parts, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    edges = np.hstack([points[:-1], points[1:]])[ring[:-1] == ring[1:]]
    owners = indices[of[ring[:-1][ring[:-1] == ring[1:]]]]
    backward = edges[:, 0] > edges[:, 2]
    edges[backward] = edges[backward][:, [2, 3, 0, 1]]
    inclined = np.flatnonzero(edges[:, 0] < edges[:, 2])
    order = inclined[np.lexsort((edges[inclined, 0], owners[inclined]))]
    return owners[order], edges[order]


def _height(edges: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """(t,) y of (t, 4) edges at (t,) x; at the ends of an edge, exactly the y of that end."""
    x_left, y_left, x_right, y_right = edges.T
    between = y_left + (x - x_left) * ((y_right - y_left) / (x_right - x_left))
    height: NDArray[np.float64] = np.where(x == x_right, y_right, between)
    return height


@compiled
def _sweep_all(
    starts: NDArray[np.int64], edges: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """(t,) lower edges, upper edges, left and right ends of the trapezoids of all polygons."""
    found = [(0, 0, 0.0, 0.0)]
    found.clear()
    for polygon in range(len(starts) - 1):
        _sweep(edges, starts[polygon], starts[polygon + 1], found)
    lower, upper = np.empty(len(found), np.int64), np.empty(len(found), np.int64)
    left, right = np.empty(len(found)), np.empty(len(found))
    for k, (below, above, begin, end) in enumerate(found):
        lower[k], upper[k] = below, above
        left[k], right[k] = begin, end
    return lower, upper, left, right


@compiled
def _sweep(
    edges: NDArray[np.float64],
    start: int,
    stop: int,
    found: list[tuple[int, int, float, float]],
) -> None:
    """Sweep a polygon from left to right, from corner to corner.

    Between two corners no edges cross: sorted by height, the area between the first and the second
    edge lies inside the polygon, that between the third and the fourth, and so on. A trapezoid
    extends for as long as its two edges are neighbours.

    Args:
        edges: (e, 4) as returned by `_edges`.
        start: First edge of the polygon.
        stop: Its last edge + 1.
        found: Trapezoids, appended: lower edge, upper edge, left and right end.
    """
    stops = np.unique(edges[start:stop, ::2].copy().ravel())
    active, heights = np.empty(stop - start, np.int64), np.empty(stop - start)
    above, since = np.full(stop - start, -1), np.empty(stop - start)  # of the open trapezoids
    count, following = 0, start
    for k, x in enumerate(stops):
        remaining = 0
        for edge in active[:count]:
            if edges[edge, 2] > x:
                active[remaining] = edge
                remaining += 1
            else:
                _update(edge, -1, x, start, above, since, found)
        count = remaining
        while following < stop and edges[following, 0] <= x:
            active[count] = following
            count, following = count + 1, following + 1
        middle = (x + stops[min(k + 1, len(stops) - 1)]) / 2
        _sort(active[:count], heights, edges, middle)
        for rank in range(count):
            upper = active[rank + 1] if rank % 2 == 0 and rank + 1 < count else -1
            _update(active[rank], upper, x, start, above, since, found)


@compiled
def _update(  # noqa: PLR0917 - compiled functions take what they need in place
    edge: int,
    upper: int,
    x: float,
    start: int,
    above: NDArray[np.int64],
    since: NDArray[np.float64],
    found: list[tuple[int, int, float, float]],
) -> None:
    """Set the edge above an edge from x on: close the open trapezoid and open another.

    Args:
        edge: The lower edge.
        upper: The edge above it; −1 if the area above it lies outside the polygon.
        x: Of the change.
        start: First edge of the polygon.
        above: Upper edge of the open trapezoid above each of the polygon's edges, −1 if none.
        since: Left end of that trapezoid.
        found: Closed trapezoids, appended.
    """
    k = edge - start
    if above[k] == upper:
        return
    if above[k] >= 0:
        found.append((edge, above[k], since[k], x))
    above[k], since[k] = upper, x


@compiled
def _sort(
    active: NDArray[np.int64],
    heights: NDArray[np.float64],
    edges: NDArray[np.float64],
    x: float,
) -> None:
    """Sort edges by their height at x, by insertion, as most are sorted already."""
    for rank in range(len(active)):
        edge = active[rank]
        share = (x - edges[edge, 0]) / (edges[edge, 2] - edges[edge, 0])
        height = edges[edge, 1] + share * (edges[edge, 3] - edges[edge, 1])
        slot = rank
        while slot > 0 and heights[slot - 1] > height:
            heights[slot], active[slot] = heights[slot - 1], active[slot - 1]
            slot -= 1
        heights[slot], active[slot] = height, edge
