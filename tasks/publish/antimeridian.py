"""Geometries that cross the antimeridian or contain a pole, cut as RFC 7946 §3.1.9 and §5 require.

The `antimeridian` package (0.4.9) cannot be used here. It decides by a ring's winding in degrees
which side of a ring around a pole is inside, so that a box over the pole of a polar stereographic
image became everything outside the box. It raises AssertionError for an outline with a hole across
the antimeridian, leaves a single vertex where a corner is the pole, and rounds the latitudes that
it adds to 7 decimals.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import shapely
from numpy.typing import NDArray

from tasks.imagery.georeference.transformers import wrap_near

_TURN = 360.0  # degrees
_STEPS = 2.0**40  # in a degree: multiples of a step stay exact when a turn is added
_POLE = 90 - 1e-9  # degrees of latitude beyond which a vertex is on the pole


def split(geometry: shapely.Geometry) -> shapely.Geometry:
    """A geometry of longitudes and latitudes, cut so that each part lies in −180 to 180.

    A polygon whose ring runs around a pole is closed over that pole, and then spans all longitudes.

    Args:
        geometry: Longitude and latitude in degrees, EPSG:4326. Longitudes may lie outside −180 to
            180; neighbouring vertices are less than 180° apart.

    Returns:
        A geometry of the same dimension: multi-part where it was cut.
    """
    if geometry.geom_type == "GeometryCollection":
        return shapely.geometrycollections([split(part) for part in geometry.geoms])
    parts = shapely.get_parts(geometry)
    if geometry.geom_type.endswith("Point"):
        return shapely.transform(
            geometry, lambda xy: np.column_stack([wrap_near(xy[:, 0], 0.0), xy[:, 1]])
        )
    if geometry.geom_type.endswith("Polygon"):
        return shapely.union_all([_split_polygon(part) for part in parts])
    lines = (shapely.linestrings(_unwrapped(shapely.get_coordinates(part))) for part in parts)
    pieces = [piece for line in lines for piece in _parts_by_turn(line)]
    return pieces[0] if len(pieces) == 1 else shapely.multilinestrings(pieces)


def bounds(geometry: shapely.Geometry) -> tuple[float, float, float, float]:
    """The bounding box of RFC 7946 §5: west, south, east, north in degrees.

    West is greater than east if the box crosses the antimeridian. The box leaves out the widest gap
    of longitudes between the parts.

    Args:
        geometry: Not empty, each part within −180 to 180, as `split` returns it.
    """
    parts = shapely.bounds(shapely.get_parts(geometry))
    parts = parts[np.argsort(parts[:, 0])]
    reach = np.maximum.accumulate(parts[:, 2])
    gaps = np.append(parts[1:, 0], parts[0, 0] + _TURN) - reach
    # of equal gaps the last one, which contains ±180, is left out
    widest = len(gaps) - 1 - int(np.argmax(gaps[::-1]))
    west = parts[(widest + 1) % len(parts), 0]
    south, north = parts[:, 1].min(), parts[:, 3].max()
    return float(west), float(south), float(reach[widest]), float(north)


def _split_polygon(polygon: shapely.Polygon) -> shapely.Geometry:
    area = _fill(polygon.exterior)
    if shapely.is_empty(area):  # a ring without area
        return split(polygon.exterior)
    return shapely.difference(area, shapely.union_all([_fill(ring) for ring in polygon.interiors]))


def _fill(ring: shapely.LinearRing) -> shapely.Geometry:
    """The area that a ring encloses, within −180 to 180."""
    points = shapely.get_coordinates(ring)[:-1]
    pole = np.copysign(90.0, points[:, 1].mean())
    # Begin at the vertex nearest to the pole: no other part of the ring lies between the two.
    off_pole = np.where(_polar(points), np.inf, np.abs(points[:, 1] - pole))
    points = np.roll(points, -int(np.argmin(off_pole)), axis=0)
    points = _unwrapped(np.vstack([points, points[:1]]))
    first, last = points[0, 0], points[-1, 0]
    if abs(last - first) > _TURN / 2:
        first = np.round(first * _STEPS) / _STEPS  # exact, so that both ends lie on one meridian
        last = first + np.copysign(_TURN, last - first)
        points[[0, -1], 0] = first, last
        points = np.vstack([points, [(last, pole), (first, pole)]])
    area = shapely.make_valid(shapely.polygons(points))
    return shapely.union_all(list(_parts_by_turn(area)))


def _unwrapped(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vertices (n, 2), each longitude moved by whole turns to within 180° of the one before it.

    A pole has no longitude: a vertex there becomes two, with the longitudes of its neighbours.
    """
    polar = _polar(points)
    if polar.any() and not polar.all():
        others, each = np.flatnonzero(~polar), np.arange(len(points))
        position = np.searchsorted(others, each)
        before = points[others[np.maximum(position - 1, 0)], 0]
        after = points[others[np.minimum(position, len(others) - 1)], 0]
        twice = np.repeat(each, 1 + polar)
        second = np.append(False, twice[1:] == twice[:-1])
        given = np.where(second, after[twice], before[twice])
        longitudes = np.where(polar[twice], given, points[twice, 0])
        points = np.column_stack([longitudes, points[twice, 1]])
    steps = wrap_near(np.diff(points[:, 0]), 0.0)
    longitudes = points[0, 0] + np.append(0.0, np.cumsum(steps))
    return np.column_stack([longitudes, points[:, 1]])


def _polar(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which vertices are on a pole."""
    polar: NDArray[np.bool_] = np.abs(points[:, 1]) > _POLE
    return polar


def _parts_by_turn(geometry: shapely.Geometry) -> Iterator[shapely.Geometry]:
    """The parts of a geometry in each turn of longitudes, moved to −180 to 180."""
    dimension = shapely.get_dimensions(geometry)
    west, _, east, _ = shapely.bounds(geometry)
    first, last = np.floor((np.array([west, east]) + 180) / _TURN).astype(int)
    for turn in range(first, last + 1):
        bounds_of_turn = shapely.box(_TURN * turn - 180, -90, _TURN * turn + 180, 90)
        for piece in shapely.get_parts(shapely.intersection(geometry, bounds_of_turn)):
            if shapely.get_dimensions(piece) == dimension and not shapely.is_empty(piece):
                yield shapely.transform(piece, lambda xy, by=_TURN * turn: xy - [by, 0])
