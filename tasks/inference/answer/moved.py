"""Moves detections from pixels of a tile that was resampled to pixels of the image."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import shapely
from rasterio.windows import Window

_BOX = ("x_min", "y_min", "x_max", "y_max")
_DECIMALS = 9  # of a pixel: a box that ends at a tile's edge does so exactly


def moved(found: pa.Table | None, window: Window, factors: tuple[float, float]) -> pa.Table | None:
    """Detections in pixels of the full image.

    Args:
        found: Table of `detections.SCHEMA` in pixels of the tile as it was sent; None if it would
            be empty.
        window: The tile's window in the full image.
        factors: Pixels of the full image for each of these, in x and y.
    """
    if found is None:
        return None
    scale, offset = np.array(factors), np.array([window.col_off, window.row_off], np.float64)
    for axis, name in enumerate(_BOX):
        values = found[name].to_numpy() * scale[axis % 2] + offset[axis % 2]
        found = _with(found, name, pa.array(values.round(_DECIMALS)))
    outlines = shapely.from_wkb(found["geometry"].to_numpy(zero_copy_only=False))
    outlines = shapely.transform(
        outlines, lambda points: (points * scale + offset).round(_DECIMALS)
    )
    return _with(found, "geometry", pa.array(shapely.to_wkb(outlines), pa.binary()))


def _with(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    position = table.schema.get_field_index(name)
    return table.set_column(position, table.schema.field(position), values)
