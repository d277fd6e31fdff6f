"""Add vertices to edges that are straight in the image and curved in longitude and latitude."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from tasks.imagery import Georeference
from tasks.imagery.georeference.transformers import wrap_near

MIN_WIDTH = 0.5
"""Degrees of longitude below which no geometry is off by more than a thousandth of its size."""

_SEGMENTS = 64  # that the longer side of a geometry is divided into
_CHUNK = 1000  # geometries at a time, since their segments take memory
_TOLERANCE = 1e-3  # of the geometry's size


def densify(
    image_geometry: NDArray[np.object_],
    geometry: NDArray[np.object_],
    georeference: Georeference,
) -> NDArray[np.object_]:
    """Geometries with more vertices where an edge that is straight in the image is not in degrees.

    An edge of length L at latitude φ is off by about L² tan φ / 8R in its middle. That is an eighth
    of the longitudes that it spans, in radians, times L: much near a pole, little elsewhere.

    Args:
        image_geometry: (n,) geometries in pixels of the full image.
        geometry: (n,) the same in longitude and latitude, straight between the same vertices;
            longitudes lie within half a turn of each centre.
        georeference: The image's georeference.

    Returns:
        (n,) geometries in longitude and latitude. One is returned unchanged if its edges are
        straight to a thousandth of its size, or if a new vertex has no longitude and latitude.
        One wider than 180° always has the new vertices.
    """
    dense = geometry.copy()
    for start in range(0, len(geometry), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        dense[chunk] = _densify_chunk(image_geometry[chunk], geometry[chunk], georeference)
    return dense


def _densify_chunk(
    image_geometry: NDArray[np.object_],
    geometry: NDArray[np.object_],
    georeference: Georeference,
) -> NDArray[np.object_]:
    x_min, y_min, x_max, y_max = shapely.bounds(image_geometry).T
    lengths = np.maximum(x_max - x_min, y_max - y_min) / _SEGMENTS
    segmented = shapely.segmentize(image_geometry, lengths)
    points, owners = shapely.get_coordinates(segmented, return_index=True)
    world = np.array(georeference.to_world(points), dtype=np.float64)
    starts = np.searchsorted(owners, np.arange(len(geometry)))
    centres = shapely.get_x(shapely.centroid(geometry))
    world[:, 0] = wrap_near(world[:, 0], centres[owners])
    dense = geometry.copy()
    for row, vertices in enumerate(np.split(world, starts[1:])):
        if np.isfinite(vertices).all() and _is_curved(geometry[row], vertices):
            dense[row] = shapely.set_coordinates(segmented[row], vertices)
    return dense


def _is_curved(straight: shapely.Geometry, vertices: NDArray[np.float64]) -> bool:
    """Whether vertices (n, 2) lie off straight edges, relative to the extent along each axis."""
    low, size = vertices.min(axis=0), np.ptp(vertices, axis=0)
    if size[0] > 180:
        return True
    if straight.geom_type.endswith("Polygon"):
        straight = shapely.boundary(straight)
    size[size == 0] = 1.0
    scaled = shapely.transform(straight, lambda xy: (xy - low) / size)
    off = shapely.distance(scaled, shapely.points((vertices - low) / size))
    return bool((off > _TOLERANCE).any())
