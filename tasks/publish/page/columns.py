"""Columns of numbers in one text, which a page's program reads without parsing numbers."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = dict[str, NDArray[Any]]
"""Arrays by name."""

_ALIGNED = 8  # bytes: a typed array of JavaScript begins at a multiple of its numbers' size
_LEVEL = 6  # of the compression: higher ones take long and gain little


def packed(columns: Mapping[str, NDArray[Any]]) -> tuple[str, dict[str, tuple[str, int, int]]]:
    """Columns as text, and where each is.

    Args:
        columns: Arrays of numbers; those with several axes are flattened, row by row.

    Returns:
        Base64 of zlib-compressed bytes; and by the name of each column its type as NumPy names it,
        its offset in the bytes, and the number of its numbers.
    """
    parts: list[bytes] = []
    index: dict[str, tuple[str, int, int]] = {}
    offset = 0
    for name, column in columns.items():
        stored = np.ascontiguousarray(column, column.dtype.newbyteorder("<"))
        index[name] = column.dtype.name, offset, column.size
        parts += [stored.tobytes(), bytes(-stored.nbytes % _ALIGNED)]
        offset += len(parts[-2]) + len(parts[-1])
    return base64.b64encode(zlib.compress(b"".join(parts), _LEVEL)).decode(), index
