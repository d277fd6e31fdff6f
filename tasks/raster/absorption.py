"""Small components of a class map become a part of a neighbour, so that they leave no gaps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.raster.components import REST, Components


def absorb(found: Components, minimum: float) -> tuple[Components, NDArray[np.int64]]:
    """Add components that are too small to the neighbour with the longest common border.

    Of two such neighbours it is the larger, then the first. What is not outlined is a neighbour
    too: a component that it absorbs is left out. Those that come to touch another one of their
    class become one with it. Repeated until none is too small.

    Args:
        found: The components, with their borders.
        minimum: Pixels that one has at least.

    Returns:
        The components, and (n,) the number of each one before.
    """
    numbers = np.arange(len(found.classes))
    while (small := found.pixels < minimum).any():
        found, group = found.joined(_choices(found, small))
        numbers = group[numbers]
        low, high = found.borders.pairs.T
        alike = found.classes[low] == found.classes[high]
        found, group = found.joined(found.borders.pairs[alike])
        numbers = group[numbers]
    return found, numbers


def _choices(found: Components, small: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(k, 2) each small component, and the one that absorbs it."""
    one, other = np.concatenate([found.borders.pairs, found.borders.pairs[:, ::-1]]).T
    lengths = np.tile(found.borders.lengths, 2)
    asked = small[one]
    one, other, lengths = one[asked], other[asked], lengths[asked]
    order = np.lexsort([other, -found.pixels[other], -lengths, one])
    one, other = one[order], other[order]
    first = np.unique(one, return_index=True)[1]
    alone = np.setdiff1d(np.flatnonzero(small), one)  # it is the whole image
    return np.concatenate(
        [
            np.stack([one[first], other[first]], axis=1),
            np.stack([alone, np.full(len(alone), REST)], axis=1),
        ]
    )
