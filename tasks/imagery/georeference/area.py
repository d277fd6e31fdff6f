"""The area of polygons on the Earth."""

from __future__ import annotations

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from tasks.imagery.georeference import Georeference
from tasks.imagery.georeference.transformers import wrap_near

_EARTH = pyproj.Geod(ellps="WGS84")
_DECIMALS = 6  # of a square metre: a square millimetre


def ground_areas(
    polygons: NDArray[np.object_], georeference: Georeference | None
) -> NDArray[np.float64]:
    """(n,) square metres of polygons on the ellipsoid (Karney, 2013); NaN without a position.

    Args:
        polygons: (n,) in pixels of the full image.
        georeference: The image's georeference, or None.
    """
    areas: NDArray[np.float64] = np.full(len(polygons), np.nan)
    if georeference is None:
        return areas
    points, owners = shapely.get_coordinates(polygons, return_index=True)
    world = np.array(georeference.to_world(points), np.float64)
    first = np.searchsorted(owners, np.arange(len(polygons)))
    world[:, 0] = wrap_near(world[:, 0], world[first[owners], 0])
    located = np.ones(len(polygons), bool)
    located[owners[~np.isfinite(world).all(axis=1)]] = False
    rows = np.flatnonzero(located)
    moved = shapely.set_coordinates(polygons[rows].copy(), world[located[owners]])
    moved = shapely.orient_polygons(moved, exterior_cw=False)
    for row, polygon in zip(rows, moved, strict=True):
        areas[row] = abs(_EARTH.geometry_area_perimeter(polygon)[0])
    return areas


def areas_of_degrees(geometry: NDArray[np.object_]) -> NDArray[np.float64]:
    """(n,) square metres of geometries on the ellipsoid; 0 without an area or for None.

    Edges are straight in degrees. The area is exact but for the curvature of an edge's latitude
    (Simpson's rule), far below a millionth for edges of a degree.

    Args:
        geometry: (n,) in longitude and latitude, exterior rings counter-clockwise and holes
            clockwise, cut at the antimeridian; or None.
    """
    # A polygon without holes is its own ring, which saves making that.
    simple = shapely.get_type_id(geometry) == shapely.GeometryType.POLYGON
    simple &= shapely.get_num_interior_rings(geometry) == 0
    plain, composed = np.flatnonzero(simple), np.flatnonzero(~simple)
    parts, part_of = shapely.get_parts(geometry[composed], return_index=True)
    rings, ring_of = shapely.get_rings(parts, return_index=True)
    owners = np.concatenate([plain, composed[part_of[ring_of]]])
    outlines = np.concatenate([geometry[plain], rings])
    points, ring = shapely.get_coordinates(outlines, return_index=True)
    x, y = np.radians(points).T
    first = np.searchsorted(ring, ring)
    height = _area_to(y)
    south = height[first]  # which areas are counted from: small ones keep their digits
    height -= south
    within = np.flatnonzero(ring[1:] == ring[:-1])
    middle = _area_to((y[within] + y[within + 1]) / 2) - south[within]
    strips = _strips(x[within] - x[within + 1], height[within], middle, height[within + 1])
    areas = np.bincount(owners[ring[within]], strips, minlength=len(geometry))
    return np.round(areas, _DECIMALS)


def areas_of_quadrilaterals(rings: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same of polygons of four corners by their rings (n, 5, 2), closed, counter-clockwise."""
    x, y = np.radians(np.ascontiguousarray(rings.T))  # (5, n)
    height = _area_to(y)
    middle = _area_to((y[:-1] + y[1:]) / 2) - height[0]
    height -= height[0].copy()
    areas: NDArray[np.float64] = _strips(x[:-1] - x[1:], height[:-1], middle, height[1:]).sum(
        axis=0
    )
    return np.round(areas, _DECIMALS)


def _strips(
    width: NDArray[np.float64],
    start: NDArray[np.float64],
    middle: NDArray[np.float64],
    end: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Square metres between edges and a parallel, by Simpson's rule.

    Args:
        width: Radians of longitude.
        start: Square metres from the parallel for a radian, at the start of each edge.
        middle: In its middle.
        end: At its end.
    """
    strips: NDArray[np.float64] = width * ((start + 4 * middle + end) / 6)
    return strips


def _area_to(latitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """Square metres from the equator to a latitude (radians), for a radian of longitude."""
    e = _EARTH.es**0.5
    sine = np.sin(latitude)
    height = sine / (1 - _EARTH.es * sine**2) + np.arctanh(e * sine) / e
    area: NDArray[np.float64] = _EARTH.b**2 / 2 * height
    return area
