"""Geometries as GeoJSON."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from tasks.publish.json_rows import json_rows
from tasks.publish.quadrilaterals import are_quadrilaterals, rings_of


def geojson(geometry: NDArray[np.object_]) -> NDArray[np.object_]:
    """(n,) geometries as GeoJSON in UTF-8, all digits; None for None."""
    texts: NDArray[np.object_] = np.full(len(geometry), None, dtype=object)
    quads = are_quadrilaterals(geometry)
    texts[quads] = polygons(rings_of(geometry, np.flatnonzero(quads)))
    others = np.flatnonzero(~quads & ~shapely.is_missing(geometry))
    texts[others] = [each.encode() for each in shapely.to_geojson(geometry[others])]
    return texts


def polygons(rings: NDArray[np.float64]) -> NDArray[np.object_]:
    """(k,) closed rings (k, vertices, 2) as polygons in GeoJSON, all digits."""
    texts = [b'{"type":"Polygon","coordinates":[[[%b]]]}' % ring for ring in json_rows(rings)]
    return np.array(texts, dtype=object)
