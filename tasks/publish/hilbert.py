"""Positions along a Hilbert curve: what lies near each other in an image is near on the curve."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ORDER = 16
"""The curve passes through 2^ORDER cells along each axis."""

Cells = NDArray[np.uint32]


def hilbert_index(column: Cells, row: Cells) -> Cells:
    """(n,) positions of cells along the curve, from 0 to 4^ORDER − 1.

    Args:
        column: (n,) from 0 to 2^ORDER − 1.
        row: (n,) from 0 to 2^ORDER − 1.
    """
    x, y = column.astype(np.uint32), row.astype(np.uint32)
    index = np.zeros_like(x)
    one, two, three = np.uint32(1), np.uint32(2), np.uint32(3)
    for bit in reversed(range(ORDER)):
        right, lower = x >> np.uint32(bit) & one, y >> np.uint32(bit) & one
        index = index << two | (right * three ^ lower)
        # In the upper quadrants the curve is mirrored at a diagonal: axes are exchanged, and on the
        # right reversed too. Bits that were looked at already do not matter.
        reverse = -(right & ~lower)
        x ^= reverse
        y ^= reverse
        exchange = (x ^ y) & (lower - one)
        x ^= exchange
        y ^= exchange
    return index
