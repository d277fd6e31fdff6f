"""Surfaces cut into convex parts, which are quick to lay over each other."""

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
    """p convex parts of surfaces, those of one surface together and from left to right.

    Attributes:
        owners: (p,) int64, ascending: place of the surface that a part is of.
        corners: (p + 1,) int64: the corners of part k are points[corners[k]:corners[k + 1]].
        points: (m, 2) float64 x, y; each part counter-clockwise in x right, y up, from its leftmost
            corner (of two, the one with the least y), not closed.
    """

    owners: NDArray[np.int64]
    corners: NDArray[np.int64]
    points: NDArray[np.float64]

    @classmethod
    def concatenate(cls, several: Sequence[Parts]) -> Parts:
        """The parts of several, those of the first first."""
        return cls(
            np.concatenate([parts.owners for parts in several]),
            _ends(np.concatenate([np.diff(parts.corners) for parts in several])),
            np.concatenate([parts.points for parts in several]),
        )

    def take(self, places: NDArray[np.int64]) -> Parts:
        """Some of the parts, in the order of their places."""
        points, ends = runs(self.corners, places)
        return Parts(self.owners[places], ends, self.points[points])

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


def runs(
    ends: NDArray[np.int64], places: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What runs at some places hold, run k being ends[k] to ends[k + 1]; and the ends of those."""
    sizes = ends[places + 1] - ends[places]
    new_ends = _ends(sizes)
    shifts = np.repeat(ends[places] - new_ends[:-1], sizes)
    return shifts + np.arange(len(shifts)), new_ends


def convex_parts(surfaces: NDArray[np.object_]) -> Parts:
    """Cut surfaces into convex parts that cover them exactly and do not overlap.

    A convex polygon stays whole. Others are cut into trapezoids, holes left out; of an invalid
    one every part that its outline encloses is surface, once.

    Args:
        surfaces: (n,) polygons and multi-polygons, or None.

    Returns:
        Their parts: none of what has no area.
    """
    plain = shapely.get_type_id(surfaces) == shapely.GeometryType.POLYGON
    plain &= shapely.get_num_interior_rings(surfaces) == 0
    places = np.flatnonzero(plain)
    owners, corners, points = _rings(surfaces[places])
    turns = _turns(corners, points)
    plain[places[owners[turns == 0]]] = False
    whole = _wound(places[owners], corners, points, turns)
    if plain.all():
        return _ordered(whole)
    places = np.flatnonzero(~plain & ~shapely.is_missing(surfaces))
    of, quads = trapezoids(valid(surfaces[places]))
    different = (quads != np.roll(quads, -1, axis=1)).any(axis=2)
    corners, points = _ends(different.sum(axis=1)), quads[different]
    cut = _wound(places[of], corners, points, _turns(corners, points))
    return _ordered(Parts.concatenate([whole, cut]))


def _rings(
    polygons: NDArray[np.object_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Owners, corners and points of polygons without holes, as in `Parts`, in any direction."""
    points, of = shapely.get_coordinates(polygons, return_index=True)
    kept = np.zeros(len(points), bool)  # the last of a ring is its first, and some come twice
    kept[:-1] = (of[:-1] == of[1:]) & (points[:-1] != points[1:]).any(axis=1)
    sizes = np.bincount(of[kept], minlength=len(polygons))
    return np.arange(len(polygons)), _ends(sizes), points[kept]


def valid(geometries: NDArray[np.object_]) -> NDArray[np.object_]:
    """(n,) geometries, the invalid ones made of all that their outlines enclose."""
    broken = ~shapely.is_valid(geometries)
    mended = geometries.copy()
    mended[broken] = shapely.make_valid(
        geometries[broken], method="structure", keep_collapsed=False
    )
    return mended


def _wound(
    owners: NDArray[np.int64],
    corners: NDArray[np.int64],
    points: NDArray[np.float64],
    turns: NDArray[np.int8],
) -> Parts:
    """The convex ones of some rings, as parts in any order."""
    convex = np.flatnonzero(turns)
    ends = _ends(corners[convex + 1] - corners[convex])
    return Parts(owners[convex], ends, _wind(convex, corners, points, turns, int(ends[-1])))


def _ordered(parts: Parts) -> Parts:
    return parts.take(np.lexsort((parts.points[parts.corners[:-1], 0], parts.owners)))


def _ends(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """(p + 1,) where runs of some sizes begin, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(sizes)])


@compiled
def _turns(corners: NDArray[np.int64], points: NDArray[np.float64]) -> NDArray[np.int8]:
    """1 where a ring is convex and runs counter-clockwise, −1 where clockwise; 0: not convex."""
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
                return 0  # back on its own line
        elif cross * turn < 0:
            return 0
        else:
            turn = 1 if cross > 0 else -1
        # A ring that turns one way only is convex if its direction goes round once.
        rounds += _upward(next_dx, next_dy) and not _upward(dx, dy)
        dx, dy = next_dx, next_dy
    return turn if rounds == 1 else 0


@compiled
def _upward(dx: float, dy: float) -> bool:
    return dy > 0 or (dy == 0 and dx > 0)


@compiled
def _wind(
    rings: NDArray[np.int64],
    corners: NDArray[np.int64],
    points: NDArray[np.float64],
    turns: NDArray[np.int8],
    count: int,
) -> NDArray[np.float64]:
    """The points of some rings, counter-clockwise and each from its leftmost corner."""
    wound = np.empty((count, 2))
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
            wound[written, 0], wound[written, 1] = points[corner, 0], points[corner, 1]
            written += 1
    return wound
