"""Polygons cut into convex parts, whose overlaps are fast to compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from tasks.merge.compiled import compiled
from tasks.merge.shapes.trapezoids import trapezoids


@dataclass(frozen=True)
class Parts:
    """p convex parts of polygons, sorted by polygon and then by x.

    Attributes:
        owners: (p,) int64, ascending: index of the polygon that a part belongs to.
        corners: (p + 1,) int64: the corners of part k are points[corners[k]:corners[k + 1]].
        points: (m, 2) float64 x, y; each part counter-clockwise with x to the right and y up, not
            closed, starting at its leftmost corner (of two, the one with the lower y).
    """

    owners: NDArray[np.int64]
    corners: NDArray[np.int64]
    points: NDArray[np.float64]

    @classmethod
    def concatenate(cls, several: Sequence[Parts]) -> Parts:
        """All parts of several, in their order."""
        return cls(
            np.concatenate([parts.owners for parts in several]),
            _offsets(np.concatenate([np.diff(parts.corners) for parts in several])),
            np.concatenate([parts.points for parts in several]),
        )

    def take(self, indices: NDArray[np.int64]) -> Parts:
        """The parts at some indices, in that order."""
        points, ends = slices(self.corners, indices)
        return Parts(self.owners[indices], ends, self.points[points])

    @property
    def areas(self) -> NDArray[np.float64]:
        """(p,) px²."""
        if not len(self.owners):
            return np.empty(0)
        sizes = np.diff(self.corners)
        local = self.points - np.repeat(self.points[self.corners[:-1]], sizes, axis=0)
        after = np.arange(1, len(local) + 1)
        after[self.corners[1:] - 1] = self.corners[:-1]
        cross = local[:, 0] * local[after, 1] - local[:, 1] * local[after, 0]
        areas: NDArray[np.float64] = np.add.reduceat(cross, self.corners[:-1]) / 2
        return areas


def slices(
    offsets: NDArray[np.int64], indices: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Select k of the slices offsets[i] to offsets[i + 1] of an array.

    Returns:
        The positions in the array that the selected slices cover, and the (k + 1,) offsets of the
        selected slices among those.
    """
    sizes = offsets[indices + 1] - offsets[indices]
    selected = _offsets(sizes)
    shifts = np.repeat(offsets[indices] - selected[:-1], sizes)
    return shifts + np.arange(len(shifts)), selected


def convex_parts(polygons: NDArray[np.object_]) -> Parts:
    """Cut polygons into convex parts that cover them exactly and do not overlap.

    A convex polygon is one part. Others are cut into trapezoids, without their holes; an invalid
    polygon is made of all that its outline encloses.

    Args:
        polygons: (n,) polygons and multi-polygons, or None.

    Returns:
        Their parts; None and polygons without an area have no parts.
    """
    plain = shapely.get_type_id(polygons) == shapely.GeometryType.POLYGON
    plain &= shapely.get_num_interior_rings(polygons) == 0
    indices = np.flatnonzero(plain)
    owners, corners, points = _rings(polygons[indices])
    turns = _turns(corners, points)
    plain[indices[owners[turns == 0]]] = False
    whole = _convex_rings(indices[owners], corners, points, turns)
    if plain.all():
        return _sorted(whole)
    indices = np.flatnonzero(~plain & ~shapely.is_missing(polygons))
    of, quads = trapezoids(valid(polygons[indices]))
    different = (quads != np.roll(quads, -1, axis=1)).any(axis=2)
    corners, points = _offsets(different.sum(axis=1)), quads[different]
    cut = _convex_rings(indices[of], corners, points, _turns(corners, points))
    return _sorted(Parts.concatenate([whole, cut]))


def _rings(
    polygons: NDArray[np.object_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Owners, corners and points of polygons without holes, as in `Parts`, in any orientation."""
    points, of = shapely.get_coordinates(polygons, return_index=True)
    kept = np.zeros(len(points), bool)  # drops each ring's closing point and repeated points
    kept[:-1] = (of[:-1] == of[1:]) & (points[:-1] != points[1:]).any(axis=1)
    sizes = np.bincount(of[kept], minlength=len(polygons))
    return np.arange(len(polygons)), _offsets(sizes), points[kept]


def valid(geometries: NDArray[np.object_]) -> NDArray[np.object_]:
    """(n,) geometries, the invalid ones replaced by all that their outlines enclose."""
    invalid = ~shapely.is_valid(geometries)
    repaired = geometries.copy()
    repaired[invalid] = enclosed(geometries[invalid])
    return repaired


def enclosed(geometries: NDArray[np.object_]) -> NDArray[np.object_]:
    """(n,) what invalid polygons enclose; a hole is no surface, wherever it lies."""
    surfaces: NDArray[np.object_] = shapely.make_valid(
        geometries, method="structure", keep_collapsed=False
    )
    polygons, owners = shapely.get_parts(geometries, return_index=True)
    for index in np.unique(owners[shapely.get_num_interior_rings(polygons) > 0]):
        own = polygons[owners == index]
        if (shapely.get_type_id(own) == shapely.GeometryType.POLYGON).all():
            surfaces[index] = shapely.union_all([_without_holes(polygon) for polygon in own])
    return surfaces


def _without_holes(polygon: shapely.Geometry) -> shapely.Geometry:
    """A polygon's shell less its holes; `make_valid` fills a hole that lies outside the shell."""
    rings = shapely.polygons(shapely.get_rings(polygon))
    shell, *holes = shapely.make_valid(rings, method="structure", keep_collapsed=False)
    return shapely.difference(shell, shapely.union_all(holes))


def _convex_rings(
    owners: NDArray[np.int64],
    corners: NDArray[np.int64],
    points: NDArray[np.float64],
    turns: NDArray[np.int8],
) -> Parts:
    """The rings that are convex, as parts in any order; `turns` as returned by `_turns`."""
    convex = np.flatnonzero(turns)
    ends = _offsets(corners[convex + 1] - corners[convex])
    return Parts(owners[convex], ends, _oriented(convex, corners, points, turns, int(ends[-1])))


def _sorted(parts: Parts) -> Parts:
    return parts.take(np.lexsort((parts.points[parts.corners[:-1], 0], parts.owners)))


def _offsets(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(p + 1,) offsets of p consecutive slices of some sizes."""
    return np.concatenate([[0], np.cumsum(sizes)])


@compiled
def _turns(corners: NDArray[np.int64], points: NDArray[np.float64]) -> NDArray[np.int8]:
    """1 for a convex ring that is counter-clockwise, −1 for a clockwise one; 0: not convex."""
    turns = np.zeros(len(corners) - 1, np.int8)
    for ring in range(len(turns)):
        if corners[ring + 1] - corners[ring] >= 3:
            turns[ring] = _turn(points[corners[ring] : corners[ring + 1]])
    return turns


@compiled
def _turn(ring: NDArray[np.float64]) -> int:
    turn, rounds = 0, 0
    dx, dy = ring[0, 0] - ring[-1, 0], ring[0, 1] - ring[-1, 1]
    for corner in range(len(ring)):
        after = (corner + 1) % len(ring)
        next_dx, next_dy = ring[after, 0] - ring[corner, 0], ring[after, 1] - ring[corner, 1]
        cross = dx * next_dy - dy * next_dx
        if cross == 0:
            if dx * next_dx + dy * next_dy < 0:
                return 0  # it turns back by 180°
        elif cross * turn < 0:
            return 0
        else:
            turn = 1 if cross > 0 else -1
        # A ring that only turns one way is convex if its direction makes one full turn.
        rounds += _upward(next_dx, next_dy) and not _upward(dx, dy)
        dx, dy = next_dx, next_dy
    return turn if rounds == 1 else 0


@compiled
def _upward(dx: float, dy: float) -> bool:
    return dy > 0 or (dy == 0 and dx > 0)


@compiled
def _oriented(
    rings: NDArray[np.int64],
    corners: NDArray[np.int64],
    points: NDArray[np.float64],
    turns: NDArray[np.int8],
    count: int,
) -> NDArray[np.float64]:
    """(count, 2) points of some rings, counter-clockwise, each from its leftmost corner."""
    oriented = np.empty((count, 2))
    written = 0
    for ring in rings:
        start, size = corners[ring], corners[ring + 1] - corners[ring]
        first = start
        for corner in range(start, start + size):
            x, y = points[corner, 0], points[corner, 1]
            if x < points[first, 0] or (x == points[first, 0] and y < points[first, 1]):
                first = corner
        for step in range(size):
            corner = start + (first - start + turns[ring] * step) % size
            oriented[written, 0], oriented[written, 1] = points[corner, 0], points[corner, 1]
            written += 1
    return oriented
