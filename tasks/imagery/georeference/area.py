"""The area of polygons on the Earth."""

from __future__ import annotations

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from tasks.imagery.georeference import Georeference
from tasks.imagery.georeference.transformers import wrap_near

_EARTH = pyproj.Geod(ellps="WGS84")


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
