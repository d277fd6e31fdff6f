"""Geometries that cross the antimeridian or hold a pole, cut as RFC 7946 §3.1.9 and §5 ask."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import shapely
from numpy.typing import NDArray

_TURN = 360.0
_GRAIN = 2.0**40  # to the degree: a turn can be added and taken away without rounding
_POLE = 90 - 1e-9  # degrees of latitude beyond which a place is the pole


def unwrap(
    longitudes: NDArray[np.float64], near: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Longitudes in degrees, moved by whole turns to within half a turn of others.

    Args:
        longitudes: (n,) degrees.
        near: (n,) or a single value, degrees.
    """
    turns: NDArray[np.float64] = np.round((longitudes - near) / _TURN)
    return longitudes - _TURN * turns


def split(geometry: shapely.Geometry) -> shapely.Geometry:
    """A geometry of longitudes and latitudes, cut so that each part lies in −180 to 180.

    A polygon whose ring runs round a pole is closed over that pole, and so is every longitude wide.

    Args:
        geometry: Longitude and latitude in degrees, EPSG:4326; longitudes in any turn, and
            neighbours in a ring or line less than half a turn from each other.

    Returns:
        A geometry of the same dimension: multi-part where it was cut.
    """
    if geometry.geom_type == "GeometryCollection":
        return shapely.geometrycollections([split(part) for part in geometry.geoms])
    parts = shapely.get_parts(geometry)
    if geometry.geom_type.endswith("Point"):
        return shapely.transform(
            geometry, lambda xy: np.column_stack([unwrap(xy[:, 0], 0.0), xy[:, 1]])
        )
    if geometry.geom_type.endswith("Polygon"):
        return shapely.union_all([_split_polygon(part) for part in parts])
    lines = (shapely.linestrings(_followed(shapely.get_coordinates(part))) for part in parts)
    pieces = [piece for line in lines for piece in _worlds(line)]
    return pieces[0] if len(pieces) == 1 else shapely.multilinestrings(pieces)


def bounds(geometry: shapely.Geometry) -> tuple[float, float, float, float]:
    """The bbox of RFC 7946 §5: west, south, east, north in degrees.

    West is greater than east where the box crosses the antimeridian: its longitudes are those that
    the widest gap between the parts leaves.

    Args:
        geometry: Not empty, each part within −180 to 180, as `split` returns it.
    """
    parts = shapely.bounds(shapely.get_parts(geometry))
    parts = parts[np.argsort(parts[:, 0])]
    reach = np.maximum.accumulate(parts[:, 2])
    gaps = np.append(parts[1:, 0], parts[0, 0] + _TURN) - reach
    widest = len(gaps) - 1 - int(np.argmax(gaps[::-1]))  # a tie goes to the one over ±180
    west = parts[(widest + 1) % len(parts), 0]
    south, north = parts[:, 1].min(), parts[:, 3].max()
    return float(west), float(south), float(reach[widest]), float(north)


def _split_polygon(polygon: shapely.Polygon) -> shapely.Geometry:
    area = _fill(polygon.exterior)
    if shapely.is_empty(area):  # it has none
        return split(polygon.exterior)
    return shapely.difference(area, shapely.union_all([_fill(ring) for ring in polygon.interiors]))


def _fill(ring: shapely.LinearRing) -> shapely.Geometry:
    """The area that a ring encloses, within −180 to 180."""
    points = shapely.get_coordinates(ring)[:-1]
    pole = np.copysign(90.0, points[:, 1].mean())
    # from the vertex next to the pole: on the way between the two lies no other part of the ring
    off_pole = np.where(_polar(points), np.inf, np.abs(points[:, 1] - pole))
    points = np.roll(points, -int(np.argmin(off_pole)), axis=0)
    points = _followed(np.vstack([points, points[:1]]))
    first, last = points[0, 0], points[-1, 0]
    if abs(last - first) > _TURN / 2:
        first = np.round(first * _GRAIN) / _GRAIN  # so that it and a turn later are one meridian
        last = first + np.copysign(_TURN, last - first)
        points[[0, -1], 0] = first, last
        points = np.vstack([points, [(last, pole), (first, pole)]])
    area = shapely.make_valid(shapely.polygons(points))
    return shapely.union_all(list(_worlds(area)))


def _followed(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vertices (n, 2), each longitude in the turn of the one before it.

    A pole has every longitude: a vertex there becomes two, with the longitudes of its neighbours.
    """
    polar = _polar(points)
    if polar.any() and not polar.all():
        others, each = np.flatnonzero(~polar), np.arange(len(points))
        place = np.searchsorted(others, each)
        before = points[others[np.maximum(place - 1, 0)], 0]
        after = points[others[np.minimum(place, len(others) - 1)], 0]
        twice = np.repeat(each, 1 + polar)
        second = np.append(False, twice[1:] == twice[:-1])
        given = np.where(second, after[twice], before[twice])
        longitudes = np.where(polar[twice], given, points[twice, 0])
        points = np.column_stack([longitudes, points[twice, 1]])
    steps = unwrap(np.diff(points[:, 0]), 0.0)
    longitudes = points[0, 0] + np.append(0.0, np.cumsum(steps))
    return np.column_stack([longitudes, points[:, 1]])


def _polar(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which vertices are on a pole."""
    polar: NDArray[np.bool_] = np.abs(points[:, 1]) > _POLE
    return polar


def _worlds(geometry: shapely.Geometry) -> Iterator[shapely.Geometry]:
    """The parts of a geometry in each turn of longitude, moved to −180 to 180."""
    dimension = shapely.get_dimensions(geometry)
    west, _, east, _ = shapely.bounds(geometry)
    first, last = np.floor((np.array([west, east]) + 180) / _TURN).astype(int)
    for turn in range(first, last + 1):
        world = shapely.box(_TURN * turn - 180, -90, _TURN * turn + 180, 90)
        for piece in shapely.get_parts(shapely.intersection(geometry, world)):
            if shapely.get_dimensions(piece) == dimension and not shapely.is_empty(piece):
                yield shapely.transform(piece, lambda xy, by=_TURN * turn: xy - [by, 0])
