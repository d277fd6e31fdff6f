"""Boxes parted by square blocks of the image, few enough in each to fit in a processor's cache."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled

MANY = 2048  # boxes in a block, about
_SIDES = 16  # that a block has at least, of boxes that reach their own side


def blocks(
    bounds: NDArray[np.float64], away: float
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float64]]]:
    """The places of the boxes whose centres lie in each block, and the block.

    Args:
        bounds: (n, 4) boxes.
        away: How many of its sides what matters to a box may be away; blocks are so large that for
            most it is in the same one.

    Yields:
        Places, ascending; and x_min, y_min, x_max, y_max where no other block has a centre.
    """
    low, high, mean = _extremes(bounds)
    extent, number = high - low, len(bounds) / MANY
    least = _SIDES * away * mean or 1.0
    side = float(max(sqrt(extent.prod() / number), extent.max() / number, least))
    rounding = 1e-9 * float(np.abs([low, high]).max())
    across, down = (ceil(length / side) + 1 for length in extent)
    order, ends = _sort(bounds, low, side, across, across * down)
    starts = np.concatenate([[0], ends[:-1]])
    lines = [_lines(low[axis], side, count, rounding) for axis, count in enumerate((across, down))]
    for block in np.flatnonzero(ends > starts):
        row, column = divmod(block, across)
        (x_min, x_max), (y_min, y_max) = lines[0][column], lines[1][row]
        yield order[starts[block] : ends[block]], np.array([x_min, y_min, x_max, y_max])


def _lines(low: float, side: float, count: int, rounding: float) -> list[tuple[float, float]]:
    """From where to where each block along an axis is surely alone; nothing is beyond the ends."""
    inner = low + side * np.arange(1, count)
    starts, ends = [-np.inf, *(inner + rounding)], [*(inner - rounding), np.inf]
    return list(zip(starts, ends, strict=True))


@compiled
def _extremes(
    bounds: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """The corners (x, y) of the box around all boxes; and the mean of their longer sides."""
    total = 0.0
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for place in range(len(bounds)):
        for axis in range(2):
            low[axis] = min(low[axis], bounds[place, axis])
            high[axis] = max(high[axis], bounds[place, axis + 2])
        total += max(bounds[place, 2] - bounds[place, 0], bounds[place, 3] - bounds[place, 1])
    return low, high, total / len(bounds)


@compiled
def _sort(
    bounds: NDArray[np.float64], low: NDArray[np.float64], side: float, across: int, blocks: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Places of boxes by block, ascending in each; and where each block's end."""
    numbers = np.empty(len(bounds), np.int32)
    counts = np.zeros(blocks, np.int64)
    for place in range(len(bounds)):
        x = (bounds[place, 0] + bounds[place, 2]) * 0.5
        y = (bounds[place, 1] + bounds[place, 3]) * 0.5
        number = int((y - low[1]) / side) * across + int((x - low[0]) / side)
        numbers[place] = number
        counts[number] += 1
    nexts = np.cumsum(counts) - counts
    order = np.empty(len(bounds), np.int32)
    for place in range(len(bounds)):
        number = numbers[place]
        order[nexts[number]] = place
        nexts[number] += 1
    return order, nexts
