"""Edges that are straight in an image and bend on the map, drawn with more vertices."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import shapely
from numpy.typing import NDArray

from tasks.publish.antimeridian import unwrap

WIDE = 0.5
"""Degrees of longitude up to which no geometry bends by more than a thousandth of its size."""

_PIECES = 64  # of a geometry's longer side, that an edge is drawn in
_AT_ONCE = 1000  # geometries: their pieces take memory
_STRAIGHT = 1e-3  # of its size that a geometry may be off


class _Georeference(Protocol):
    def to_world(self, points: NDArray[np.float64], /) -> NDArray[np.float64]:
        """Longitude, latitude (n, 2) of pixels x, y (n, 2)."""


def bent(
    image_geometry: NDArray[np.object_],
    geometry: NDArray[np.object_],
    georeference: _Georeference,
) -> NDArray[np.object_]:
    """Geometries on the map whose edges bend as the image's do.

    An edge of length L at latitude φ is off by about L² tan φ / 8R in the middle, which is an
    eighth of the longitudes it spans, in radians, times L: much near a pole, little elsewhere.

    Args:
        image_geometry: (n,) in pixels of the full image.
        geometry: (n,) the same in longitude, latitude, with straight edges between its vertices;
            longitudes within half a turn of each centre.
        georeference: Of the image.

    Returns:
        (n,) geometries of the map, as they were where they hardly bend or a piece of an edge has no
        place; those around a pole or half the globe always drawn in pieces.
    """
    drawn = geometry.copy()
    for start in range(0, len(geometry), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        drawn[some] = _drawn(image_geometry[some], geometry[some], georeference)
    return drawn


def _drawn(
    image_geometry: NDArray[np.object_],
    geometry: NDArray[np.object_],
    georeference: _Georeference,
) -> NDArray[np.object_]:
    west, south, east, north = shapely.bounds(image_geometry).T
    pieces = shapely.segmentize(image_geometry, np.maximum(east - west, north - south) / _PIECES)
    points, owners = shapely.get_coordinates(pieces, return_index=True)
    world = np.array(georeference.to_world(points), dtype=np.float64)
    starts = np.searchsorted(owners, np.arange(len(geometry)))
    centres = shapely.get_x(shapely.centroid(geometry))
    world[:, 0] = unwrap(world[:, 0], centres[owners])
    drawn = geometry.copy()
    for row, those in enumerate(np.split(world, starts[1:])):
        if np.isfinite(those).all() and _bends(geometry[row], those):
            drawn[row] = shapely.set_coordinates(pieces[row], those)
    return drawn


def _bends(straight: shapely.Geometry, points: NDArray[np.float64]) -> bool:
    """Whether points on the edges lie off them, in parts of the extent along each axis."""
    low, size = points.min(axis=0), np.ptp(points, axis=0)
    if size[0] > 180:
        return True
    if straight.geom_type.endswith("Polygon"):
        straight = shapely.boundary(straight)
    size[size == 0] = 1.0
    scaled = shapely.transform(straight, lambda xy: (xy - low) / size)
    return bool((shapely.distance(scaled, shapely.points((points - low) / size)) > _STRAIGHT).any())
