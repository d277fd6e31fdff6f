"""How much each pixel of a tile counts where several tiles overlap."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_SCALE = 65_535  # the largest weight along an axis


@lru_cache(maxsize=64)
def smooth_weights(size: int, *, first: bool, last: bool) -> NDArray[np.float64]:
    """The weights of a tile's pixels along an axis: a squared sine, 0 beyond both edges.

    The weight of a pixel is the product of those along both axes. They are whole numbers, at least
    1, so that products with probabilities in whole numbers are added exactly.

    Args:
        size: Pixels of the tile along the axis.
        first: Whether the tile begins at the image's border, to which weights do not fall off.
        last: Whether it ends there.

    Returns:
        (size,) whole numbers from 1 to 65,535.
    """
    sines = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
    middle = size // 2
    if first:
        sines[:middle] = 1.0
    if last:
        sines[middle:] = 1.0
    weights: NDArray[np.float64] = np.maximum(1.0, np.rint(sines * _SCALE))
    weights.flags.writeable = False
    return weights


def distances(size: int) -> NDArray[np.float64]:
    """(size,) how far each pixel of a tile is from its centre along an axis."""
    away: NDArray[np.float64] = np.abs(np.arange(size) + 0.5 - size / 2)
    return away
