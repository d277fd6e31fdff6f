"""NMS: boxes split into square blocks of the image, small enough for a processor's cache."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled

BLOCK_SIZE = 2048  # boxes in a block, on average
_MIN_SIDES = 16  # least side of a block, in units of the distance at which boxes affect each other


def blocks(
    bounds: NDArray[np.float64], reach: float
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float64]]]:
    """The boxes whose centres lie in each block, and the block.

    Args:
        bounds: (n, 4) boxes.
        reach: Greatest distance from a box, in units of its sides, at which the centre of another
            box that affects it can lie. Blocks are so large that for most boxes all of these
            centres lie in the same block.

    Yields:
        Indices of the boxes, ascending; and x_min, y_min, x_max, y_max of an area in which no other
        block has a centre.
    """
    low, high, mean = _extremes(bounds)
    extent, number = high - low, len(bounds) / BLOCK_SIZE
    least = _MIN_SIDES * reach * mean or 1.0
    side = float(max(sqrt(extent.prod() / number), extent.max() / number, least))
    rounding = 1e-9 * float(np.abs([low, high]).max())
    across, down = (ceil(length / side) + 1 for length in extent)
    order, ends = _sort(bounds, low, side, across, across * down)
    starts = np.concatenate([[0], ends[:-1]])
    spans = [_spans(low[axis], side, count, rounding) for axis, count in enumerate((across, down))]
    for block in np.flatnonzero(ends > starts):
        row, column = divmod(block, across)
        (x_min, x_max), (y_min, y_max) = spans[0][column], spans[1][row]
        yield order[starts[block] : ends[block]], np.array([x_min, y_min, x_max, y_max])


def _spans(low: float, side: float, count: int, rounding: float) -> list[tuple[float, float]]:
    """Start and end of each block along an axis, less rounding; infinite at the first and last."""
    inner = low + side * np.arange(1, count)
    starts, ends = [-np.inf, *(inner + rounding)], [*(inner - rounding), np.inf]
    return list(zip(starts, ends, strict=True))


@compiled
def _extremes(
    bounds: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Lowest and highest x, y of all boxes, (2,) each; and the mean of their longer sides."""
    total = 0.0
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for index in range(len(bounds)):
        for axis in range(2):
            low[axis] = min(low[axis], bounds[index, axis])
            high[axis] = max(high[axis], bounds[index, axis + 2])
        total += max(bounds[index, 2] - bounds[index, 0], bounds[index, 3] - bounds[index, 1])
    return low, high, total / len(bounds)


@compiled
def _sort(
    bounds: NDArray[np.float64], low: NDArray[np.float64], side: float, across: int, blocks: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Indices of boxes sorted by block, ascending in each; and the end of each block (counting)."""
    numbers = np.empty(len(bounds), np.int32)
    counts = np.zeros(blocks, np.int64)
    for index in range(len(bounds)):
        x = (bounds[index, 0] + bounds[index, 2]) * 0.5
        y = (bounds[index, 1] + bounds[index, 3]) * 0.5
        number = int((y - low[1]) / side) * across + int((x - low[0]) / side)
        numbers[index] = number
        counts[number] += 1
    nexts = np.cumsum(counts) - counts
    order = np.empty(len(bounds), np.int32)
    for index in range(len(bounds)):
        number = numbers[index]
        order[nexts[number]] = index
        nexts[number] += 1
    return order, nexts
