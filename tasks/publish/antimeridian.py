"""Geometries that cross the antimeridian or hold a pole, cut as RFC 7946 §3.1.9 and §5 ask."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import shapely
from numpy.typing import NDArray

_TURN = 360.0


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


def split(geometry: shapely.Geometry, near: float) -> shapely.Geometry:
    """A geometry of longitudes and latitudes, cut so that each part lies in −180 to 180.

    A polygon whose ring runs round a pole is closed over that pole, and so is every longitude wide.

    Args:
        geometry: Longitude and latitude in degrees, EPSG:4326; longitudes in any turn.
        near: Longitude inside the geometry, within half a turn of all of it.

    Returns:
        A geometry of the same dimension: multi-part where it was cut.
    """
    if geometry.geom_type == "GeometryCollection":
        return shapely.geometrycollections([split(part, near) for part in geometry.geoms])
    if geometry.geom_type.endswith("Point"):
        return _near(geometry, 0.0)
    parts = shapely.get_parts(geometry)
    if geometry.geom_type.endswith("Polygon"):
        return shapely.union_all([_split_polygon(part, near) for part in parts])
    pieces = [piece for part in parts for piece in _worlds(_near(part, near))]
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


def _split_polygon(polygon: shapely.Polygon, near: float) -> shapely.Geometry:
    holes = [_fill(ring, near) for ring in polygon.interiors]
    return shapely.difference(_fill(polygon.exterior, near), shapely.union_all(holes))


def _fill(ring: shapely.LinearRing, near: float) -> shapely.Geometry:
    """The area that a ring encloses, within −180 to 180."""
    points = shapely.get_coordinates(ring)
    steps = unwrap(np.diff(points[:, 0]), 0.0)
    if abs(steps.sum()) > _TURN / 2:
        points[1:, 0] = points[0, 0] + np.cumsum(steps)
        pole = np.copysign(90.0, points[:, 1].mean())
        cap = [(points[-1, 0], pole), (points[0, 0], pole)]
        area = shapely.polygons(np.vstack([points, cap]))
    else:
        area = _near(shapely.polygons(points), near)
    return shapely.union_all(list(_worlds(shapely.make_valid(area))))


def _near(geometry: shapely.Geometry, near: float) -> shapely.Geometry:
    return shapely.transform(
        geometry, lambda xy: np.column_stack([unwrap(xy[:, 0], near), xy[:, 1]])
    )


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
