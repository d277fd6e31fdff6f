"""Geometries as GeoJSON."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import GeometryType

from tasks.publish.geometries import Geometries
from tasks.publish.json_rows import matrices
from tasks.publish.quadrilaterals import are_quadrilaterals, rings_of


def geojson(geometries: Geometries) -> NDArray[np.object_]:
    """(n,) geometries as GeoJSON in UTF-8, all digits; None for None."""
    if geometries.rings is not None:
        return polygons(geometries.rings)
    geometry = geometries.shapes
    texts: NDArray[np.object_] = np.full(len(geometry), None, dtype=object)
    quads = are_quadrilaterals(geometry)
    texts[quads] = polygons(rings_of(geometry, np.flatnonzero(quads)))
    areas = (shapely.get_type_id(geometry) == GeometryType.POLYGON) & ~shapely.is_empty(geometry)
    outlines = areas & ~quads & (shapely.get_num_interior_rings(geometry) == 0)
    texts[outlines] = polygons(_rings(geometry[outlines]))
    others = np.flatnonzero(~quads & ~outlines & ~shapely.is_missing(geometry))
    texts[others] = [each.encode() for each in shapely.to_geojson(geometry[others])]
    return texts


def polygons(rings: NDArray[np.float64] | Sequence[NDArray[np.float64]]) -> NDArray[np.object_]:
    """(k,) closed rings, each (vertices, 2), as polygons in GeoJSON, all digits."""
    texts = [b'{"type":"Polygon","coordinates":[[[%b]]]}' % ring for ring in matrices(rings)]
    return np.array(texts, dtype=object)


def _rings(outlines: NDArray[np.object_]) -> list[NDArray[np.float64]]:
    """The rings of polygons without holes, each (vertices, 2)."""
    vertices = shapely.get_coordinates(outlines)
    ends = np.cumsum(shapely.get_num_coordinates(outlines)).tolist()
    return [vertices[start:end] for start, end in pairwise([0, *ends])]
