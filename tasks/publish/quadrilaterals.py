"""Polygons of four corners, such as boxes: which of them are valid, by arithmetic.

Most detections are boxes, and GEOS takes several times as long for each.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import GeometryType

_VERTICES = 5  # of a closed ring
_LEAST_TURN = 1e-9  # relative to the sides' squares: far above the error of the arithmetic


def are_quadrilaterals(geometry: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Which geometries (n,) are polygons of four corners without a hole."""
    numbers, types = shapely.get_num_coordinates(geometry), shapely.get_type_id(geometry)
    found: NDArray[np.bool_] = (numbers == _VERTICES) & (types == GeometryType.POLYGON)
    return found


def vertex_numbers(geometry: NDArray[np.object_], rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """(k, 5) positions of the vertices of quadrilaterals among those of all geometries (n,).

    Args:
        geometry: (n,) geometries.
        rows: (k,) which of them are quadrilaterals.
    """
    counts = shapely.get_num_coordinates(geometry)
    first: NDArray[np.intp] = np.cumsum(counts) - counts
    return first[rows, np.newaxis] + np.arange(_VERTICES)


def rings_of(geometry: NDArray[np.object_], rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """(k, 5, 2) the rings of those geometries (n,) that are quadrilaterals."""
    vertices: NDArray[np.float64] = shapely.get_coordinates(geometry)
    if len(rows) == len(geometry):
        return vertices.reshape(-1, _VERTICES, 2)
    return vertices[vertex_numbers(geometry, rows)]


def all_rings(geometry: NDArray[np.object_]) -> NDArray[np.float64] | None:
    """(n, 5, 2) the rings of geometries (n,); None unless all are quadrilaterals."""
    if not are_quadrilaterals(geometry).all():
        return None
    vertices: NDArray[np.float64] = shapely.get_coordinates(geometry)
    return vertices.reshape(-1, _VERTICES, 2)


def orientations(rings: NDArray[np.float64]) -> NDArray[np.int8]:
    """The direction of each ring that is certainly convex, and so a valid polygon.

    Args:
        rings: (k, 5, 2) closed rings.

    Returns:
        (k,) 1 for counter-clockwise, −1 for clockwise, 0 for a ring that may not be convex.
    """
    x, y = np.diff(np.ascontiguousarray(rings.T), axis=1)  # (4, k): NumPy is slow with short rows
    turns = x * np.roll(y, -1, axis=0) - y * np.roll(x, -1, axis=0)
    least = _LEAST_TURN * (x * x + y * y).sum(axis=0)
    left, right = turns.min(axis=0) > least, turns.max(axis=0) < -least
    found: NDArray[np.int8] = left.astype(np.int8) - right.astype(np.int8)
    return found


def turned(rings: NDArray[np.float64], turns: NDArray[np.int8]) -> NDArray[np.float64]:
    """Rings (k, 5, 2), of which those that turn clockwise are reversed.

    Args:
        rings: (k, 5, 2) closed rings.
        turns: (k,) from `orientations`.
    """
    return np.where((turns < 0)[:, np.newaxis, np.newaxis], rings[:, ::-1], rings)


def bounds_of(rings: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k, 4) smallest x and y, largest x and y of closed rings (k, 5, 2)."""
    columns = np.ascontiguousarray(rings[:, 1:].T)  # (2, 4, k): NumPy is slow with short rows
    return np.concatenate([columns.min(axis=1), columns.max(axis=1)]).T


def centroids_of(rings: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k, 2) centroids of closed rings (k, 5, 2), as GEOS has them; of no area, by GEOS itself."""
    x, y = np.ascontiguousarray(rings.T)
    # two triangles, which have the first corner in common
    (x1, x2), (y1, y2) = ((axis[1:3] - axis[0], axis[2:4] - axis[0]) for axis in (x, y))
    areas = x1 * y2 - x2 * y1
    sums = (axis[0] + axis[1:3] + axis[2:4] for axis in (x, y))
    whole = areas.sum(axis=0)
    flat = np.flatnonzero(whole == 0)  # also of sides so short that their product is 0
    whole[flat] = 1.0
    centroids = np.stack([(areas * each).sum(axis=0) / 3 / whole for each in sums], axis=1)
    centroids[flat] = shapely.get_coordinates(shapely.centroid(shapely.polygons(rings[flat])))
    return centroids


def boxes_as_rings(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k, 5, 2) closed rings of boxes (k, 4), with the vertices in the order of `shapely.box`."""
    return boxes[:, [2, 1, 2, 3, 0, 3, 0, 1, 2, 1]].reshape(-1, _VERTICES, 2)
