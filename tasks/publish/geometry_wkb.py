"""Geometries as WKB, little-endian."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from tasks.publish.geometries import Geometries

_QUADRILATERAL = np.dtype(
    [("order", "u1"), ("type", "<u4"), ("rings", "<u4"), ("points", "<u4"), ("ring", "<f8", (5, 2))]
)
_HEADER = {"order": 1, "type": 3, "rings": 1, "points": 5}  # little-endian, a polygon


def wkb(geometries: Geometries) -> pa.BinaryArray:
    """Geometries (n,) as WKB; null for None."""
    rings, count = geometries.rings, len(geometries)
    if rings is None:
        return pa.array(shapely.to_wkb(geometries.shapes, byte_order=1), pa.binary())
    records = np.empty(count, _QUADRILATERAL)
    for name, value in _HEADER.items():
        records[name] = value
    records["ring"] = rings
    offsets = np.arange(count + 1, dtype=np.int32) * np.int32(_QUADRILATERAL.itemsize)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(records)]
    return pa.BinaryArray.from_buffers(pa.binary(), count, buffers)


def rings_of_wkb(column: pa.BinaryArray) -> NDArray[np.float64] | None:
    """(n, 5, 2) the rings of WKB (n,) without nulls; None unless all are quadrilaterals."""
    if (pc.binary_length(column).to_numpy() != _QUADRILATERAL.itemsize).any():
        return None
    records = np.frombuffer(b"".join(column.to_pylist()), _QUADRILATERAL)
    if any((records[name] != value).any() for name, value in _HEADER.items()):
        return None
    return records["ring"].astype(np.float64)
