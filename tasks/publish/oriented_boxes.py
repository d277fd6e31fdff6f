"""The angle, the length and the width of oriented boxes as they are published, on the Earth too."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyproj
import shapely
from numpy.typing import NDArray

from tasks.imagery import Georeference
from tasks.results import exact_json
from tasks.results.oriented_boxes import ANGLE, DECIMALS, LENGTH, WIDTH, corners_of, measure

LENGTH_METRES, WIDTH_METRES = "lengthMetres", "widthMetres"
"""The mean lengths of both longer and of both shorter sides on the ellipsoid."""

_EARTH = pyproj.Geod(ellps="WGS84")

Floats = NDArray[np.float64]


def with_measures(table: pa.Table, georeference: Georeference | None) -> pa.Table:
    """Detections, with oriented boxes measured as the merge left them.

    A box that the merge made of several without an outline has lost its orientation, and these
    properties with it.

    Args:
        table: Of `detections.SCHEMA`, in pixels of the full image.
        georeference: The image's georeference; without one nothing is told in metres.
    """
    marked = pc.match_substring(table["properties"], f'"{LENGTH}":').to_numpy()
    if not marked.any():
        return table
    texts = table["properties"].to_pylist()
    rows = np.flatnonzero(marked)
    corners = corners_of(shapely.from_wkb(table["geometry"].to_numpy()[rows]))
    columns = measure(corners) | _on_the_ground(corners, georeference)
    names = (ANGLE, LENGTH, WIDTH, LENGTH_METRES, WIDTH_METRES)
    for row, *values in zip(rows, *(columns[name].tolist() for name in names), strict=True):
        own = exact_json.loads(texts[row])
        for name, value in zip(names, values, strict=True):
            own.pop(name, None)
            if np.isfinite(value):
                own[name] = value
        texts[row] = json.dumps(own, ensure_ascii=False)
    position = table.schema.get_field_index("properties")
    field = table.schema.field(position)
    return table.set_column(position, field, pa.array(texts, pa.string()))


def _on_the_ground(corners: Floats, georeference: Georeference | None) -> dict[str, Floats]:
    """Both properties in metres; NaN without a position.

    Args:
        corners: (n, 4, 2) in pixels of the full image, a longer side first.
        georeference: The image's georeference, or None.
    """
    sides = np.full((len(corners), 4), np.nan)
    located = np.flatnonzero(np.isfinite(corners).all(axis=(1, 2)))
    if georeference is not None and len(located):
        world = np.array(georeference.to_world(corners[located].reshape(-1, 2)), np.float64)
        world = world.reshape(-1, 4, 2)
        known = np.isfinite(world).all(axis=(1, 2))
        here = world[known].reshape(-1, 2)
        there = np.roll(world[known], -1, axis=1).reshape(-1, 2)
        metres = _EARTH.inv(*here.T, *there.T)[2]
        sides[located[known]] = np.asarray(metres).reshape(-1, 4)
    longer, shorter = sides[:, ::2].mean(axis=1), sides[:, 1::2].mean(axis=1)
    return {LENGTH_METRES: longer.round(DECIMALS), WIDTH_METRES: shorter.round(DECIMALS)}
