"""Outlines of which every angle is right, as those of buildings are."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

_LEAST_IOU = 0.8  # with the exact outline
_LEAST_TOLERANCE = 1.0  # pixels; less keeps the steps of a slanted border


def right_angled(
    outline: shapely.Geometry, tolerance: float, size: tuple[int, int]
) -> shapely.Geometry:
    """A polygon with right angles that is close to an exact outline.

    The outline is simplified (Douglas and Peucker, 1973). The direction of its walls is the mean of
    those of its edges modulo 90°, weighted by their lengths (wall statistical weighting; Duchêne et
    al., 2003, Quantitative and qualitative description of building orientation). Each edge belongs
    to the nearer of the two perpendicular directions; edges of one direction in a row become one
    line in their mean position, and the corners are where these lines meet. What lies outside the
    image is cut off.

    Args:
        outline: A polygon along the borders of pixels.
        tolerance: Pixels by which the simplified outline may differ; less than 1 counts as 1.
        size: Width and height of the image in pixels.

    Returns:
        The polygon, whose angles are right but at the border of the image; or the exact outline,
        which has right angles too, if there is none in one part, or its intersection over union
        with the outline is below 0.8.
    """
    rough = shapely.simplify(outline, max(tolerance, _LEAST_TOLERANCE))
    rings = [_open(ring) for ring in shapely.get_rings(rough)]
    middle = rings[0].mean(axis=0)
    turn = _turn(_direction(rings[0]))
    squared = [_squared((ring - middle) @ turn) for ring in rings]
    if any(len(ring) < 4 for ring in squared):
        return outline
    shell, *holes = [ring @ turn.T + middle for ring in squared]
    found = shapely.polygons(shell, [shapely.linearrings(hole) for hole in holes] or None)
    if not shapely.is_valid(found):
        return outline
    found = _inside(found, size)
    whole = found.geom_type == "Polygon" and shapely.is_valid(found)
    return found if whole and _iou(found, outline) >= _LEAST_IOU else outline


def _inside(polygon: shapely.Geometry, size: tuple[int, int]) -> shapely.Geometry:
    """The part of a valid polygon that lies in an image of a size."""
    image = shapely.box(0, 0, *size)
    if shapely.covers(image, polygon):
        return polygon
    # the corners that it adds at the border may be off by rounding
    return shapely.transform(
        shapely.intersection(polygon, image), lambda points: np.clip(points, 0, size)
    )


def _open(ring: shapely.Geometry) -> NDArray[np.float64]:
    """(n, 2) the vertices of a ring, each once."""
    points: NDArray[np.float64] = shapely.get_coordinates(ring)[:-1]
    return points


def _direction(ring: NDArray[np.float64]) -> float:
    """The direction of a ring's edges modulo 90°, in radians."""
    edges = np.roll(ring, -1, axis=0) - ring
    around = np.exp(4j * np.arctan2(edges[:, 1], edges[:, 0]))
    return float(np.angle(around @ np.hypot(*edges.T))) / 4


def _turn(angle: float) -> NDArray[np.float64]:
    """(2, 2) turns row vectors back by an angle; its transpose turns them by it."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _squared(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """(k, 2) the corners of a ring along both axes; none if its edges have one direction."""
    following = np.roll(ring, -1, axis=0)
    edges = np.abs(following - ring)
    level = edges[:, 0] >= edges[:, 1]
    changes = np.flatnonzero(level != np.roll(level, 1))
    if not len(changes):
        return ring[:0]
    shift = -int(changes[0])
    level, lengths = np.roll(level, shift), np.roll(np.hypot(*edges.T), shift)
    middles = np.roll((ring + following) / 2, shift, axis=0)
    places = np.where(level, middles[:, 1], middles[:, 0])
    starts = changes - changes[0]
    lines = np.add.reduceat(places * lengths, starts) / np.add.reduceat(lengths, starts)
    after = np.roll(lines, -1)
    x, y = np.where(level[starts], [after, lines], [lines, after])
    return np.stack([x, y], axis=1)


def _iou(one: shapely.Geometry, other: shapely.Geometry) -> float:
    shared = shapely.intersection(one, other).area
    return float(shared / (one.area + other.area - shared))
