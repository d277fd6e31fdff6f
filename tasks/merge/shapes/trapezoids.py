"""Any polygon cut into trapezoids that stand upright: none overlap, few share their columns.

GEOS's triangulation refuses outlines whose holes touch, as those of masks of pixels do.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from tasks.merge.compiled import compiled


def trapezoids(
    surfaces: NDArray[np.object_],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Cut surfaces into trapezoids with two upright sides (de Berg et al., 2008, chapter 6).

    Args:
        surfaces: (n,) valid polygons and multi-polygons.

    Returns:
        (t,) the place of the surface that each is of; (t, 4, 2) their corners x, y,
        counter-clockwise in x right, y up, from the lower left one. Of some, a side has no length.
    """
    owners, edges = _edges(surfaces)
    starts = np.searchsorted(owners, np.arange(len(surfaces) + 1))
    lower, upper, left, right = _sweep_all(starts, edges)
    corners = [
        (left, _height(edges[lower], left)),
        (right, _height(edges[lower], right)),
        (right, _height(edges[upper], right)),
        (left, _height(edges[upper], left)),
    ]
    return owners[lower], np.array(corners).transpose(2, 0, 1)


def _edges(surfaces: NDArray[np.object_]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(e,) surfaces and (e, 4) x, y, x, y of their edges from left to right, but upright ones."""
    polygons, places = shapely.get_parts(surfaces, return_index=True)
    rings, of = shapely.get_rings(polygons, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    edges = np.hstack([points[:-1], points[1:]])[ring[:-1] == ring[1:]]
    owners = places[of[ring[:-1][ring[:-1] == ring[1:]]]]
    backward = edges[:, 0] > edges[:, 2]
    edges[backward] = edges[backward][:, [2, 3, 0, 1]]
    leaning = np.flatnonzero(edges[:, 0] < edges[:, 2])
    order = leaning[np.lexsort((edges[leaning, 0], owners[leaning]))]
    return owners[order], edges[order]


def _height(edges: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """(t,) y of (t, 4) edges at x; exactly their own at their ends."""
    x_left, y_left, x_right, y_right = edges.T
    between = y_left + (x - x_left) * ((y_right - y_left) / (x_right - x_left))
    height: NDArray[np.float64] = np.where(x == x_right, y_right, between)
    return height


@compiled
def _sweep_all(
    starts: NDArray[np.int64], edges: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """(t,) lower edges, upper edges, left and right ends of the trapezoids of all surfaces."""
    found = [(0, 0, 0.0, 0.0)]
    found.clear()
    for surface in range(len(starts) - 1):
        _sweep(edges, starts[surface], starts[surface + 1], found)
    lower, upper = np.empty(len(found), np.int64), np.empty(len(found), np.int64)
    left, right = np.empty(len(found)), np.empty(len(found))
    for place, (below, above, begin, end) in enumerate(found):
        lower[place], upper[place] = below, above
        left[place], right[place] = begin, end
    return lower, upper, left, right


@compiled
def _sweep(
    edges: NDArray[np.float64],
    start: int,
    stop: int,
    found: list[tuple[int, int, float, float]],
) -> None:
    """Go over a surface from corner to corner, from left to right.

    Between two corners no edges cross: from below, the first and the second bound surface, the
    third and the fourth, and so on. A trapezoid goes on for as long as two edges are neighbours.
    """
    stops = np.unique(edges[start:stop, ::2].copy().ravel())
    active, heights = np.empty(stop - start, np.int64), np.empty(stop - start)
    above, since = np.full(stop - start, -1), np.empty(stop - start)  # of trapezoids not yet ended
    count, coming = 0, start
    for place, x in enumerate(stops):
        left = 0
        for edge in active[:count]:
            if edges[edge, 2] > x:
                active[left] = edge
                left += 1
            else:
                _pass(edge, -1, x, start, above, since, found)
        count = left
        while coming < stop and edges[coming, 0] <= x:
            active[count] = coming
            count, coming = count + 1, coming + 1
        middle = (x + stops[min(place + 1, len(stops) - 1)]) / 2
        _sort(active[:count], heights, edges, middle)
        for rank in range(count):
            upper = active[rank + 1] if rank % 2 == 0 and rank + 1 < count else -1
            _pass(active[rank], upper, x, start, above, since, found)


@compiled
def _pass(  # noqa: PLR0917 - compiled functions take what they need in place
    edge: int,
    upper: int,
    x: float,
    start: int,
    above: NDArray[np.int64],
    since: NDArray[np.float64],
    found: list[tuple[int, int, float, float]],
) -> None:
    """End the trapezoid over an edge, and begin another, where its upper edge is another one."""
    place = edge - start
    if above[place] == upper:
        return
    if above[place] >= 0:
        found.append((edge, above[place], since[place], x))
    above[place], since[place] = upper, x


@compiled
def _sort(
    active: NDArray[np.int64],
    heights: NDArray[np.float64],
    edges: NDArray[np.float64],
    x: float,
) -> None:
    """Sort edges by their height at x; most are in order already."""
    for rank in range(len(active)):
        edge = active[rank]
        share = (x - edges[edge, 0]) / (edges[edge, 2] - edges[edge, 0])
        height = edges[edge, 1] + share * (edges[edge, 3] - edges[edge, 1])
        place = rank
        while place > 0 and heights[place - 1] > height:
            heights[place], active[place] = heights[place - 1], active[place - 1]
            place -= 1
        heights[place], active[place] = height, edge
