"""Geometries as WKB, little-endian."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from tasks.publish.quadrilaterals import all_rings

_QUADRILATERAL = np.dtype(
    [("order", "u1"), ("type", "<u4"), ("rings", "<u4"), ("points", "<u4"), ("ring", "<f8", (5, 2))]
)
_LITTLE_ENDIAN, _POLYGON = 1, 3


def wkb(geometry: NDArray[np.object_], rings: NDArray[np.float64] | None = None) -> pa.BinaryArray:
    """Geometries of two dimensions as WKB; null for None.

    Args:
        geometry: (n,) the geometries.
        rings: (n, 5, 2) their rings if they are known, and all are quadrilaterals.
    """
    count = len(geometry)
    rings = all_rings(geometry) if rings is None else rings
    if rings is None:
        return pa.array(shapely.to_wkb(geometry, byte_order=1), pa.binary())
    records = np.empty(count, _QUADRILATERAL)
    fields = {"order": _LITTLE_ENDIAN, "type": _POLYGON, "rings": 1, "points": 5, "ring": rings}
    for name, values in fields.items():
        records[name] = values
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(_QUADRILATERAL.itemsize)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(records)]
    return pa.BinaryArray.from_buffers(pa.binary(), count, buffers)
