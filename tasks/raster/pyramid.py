"""The overviews of a raster: each has half the rows and columns of the one before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.raster.block_store import BlockWriter, Place
from tasks.raster.blocks import BLOCK
from tasks.raster.compression import compress
from tasks.raster.layers import Layer
from tasks.raster.statistics import Statistics

_HALF = BLOCK // 2

Pixels = NDArray[Any]


def level_sizes(width: int, height: int) -> list[tuple[int, int]]:
    """Width and height of the raster and its overviews, the last of which is one block."""
    sizes = [(width, height)]
    while max(sizes[-1]) > BLOCK:
        width, height = sizes[-1]
        sizes.append((-(-width // 2), -(-height // 2)))
    return sizes


def level_shape(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of blocks of a level with a width and height."""
    return -(-size[1] // BLOCK), -(-size[0] // BLOCK)


def build_overviews(
    layer: Layer,
    sizes: list[tuple[int, int]],
    read_block: Callable[[int, int], Pixels],
    writer: BlockWriter,
) -> Statistics:
    """Make and store the blocks of all overviews, from the blocks of the raster.

    Four blocks at a time become one of the next level, from corner to corner along a Z, so that
    only a few blocks of each level are in memory.

    Args:
        layer: The layer.
        sizes: Of `level_sizes`.
        read_block: Reads (bands, BLOCK, BLOCK) pixels of the raster by row and column of blocks; at
            the borders of the raster, those beyond it have any value.
        writer: Stores the blocks.

    Returns:
        The statistics of the raster.
    """
    statistics = Statistics(layer)

    def block(level: int, row: int, column: int) -> Pixels:
        """(bands, height, width) the pixels of a block inside its level, made and stored."""
        width, height = sizes[level]
        rows, columns = min(BLOCK, height - row * BLOCK), min(BLOCK, width - column * BLOCK)
        if level == 0:
            pixels = read_block(row, column)[:, :rows, :columns]
            statistics.add(pixels)
            return pixels
        pixels = np.empty((len(layer.bands), rows, columns), layer.dtype)
        below = level_shape(sizes[level - 1])
        for down in range(2):
            for across in range(2):
                child = 2 * row + down, 2 * column + across
                if child[0] < below[0] and child[1] < below[1]:
                    half = halved(block(level - 1, *child), layer)
                    top, left = down * _HALF, across * _HALF
                    pixels[:, top : top + half.shape[1], left : left + half.shape[2]] = half
        writer.add(Place(layer.name, level, row, column), compress(pixels, layer))
        return pixels

    block(len(sizes) - 1, 0, 0)
    return statistics


def halved(pixels: Pixels, layer: Layer) -> Pixels:
    """(bands, ceil(height / 2), ceil(width / 2)) each four pixels as one.

    It is their mean, or of classes the most frequent (of several, the lowest); pixels without an
    answer do not count.
    """
    _, height, width = pixels.shape
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, 0), (0, height % 2), (0, width % 2)), "edge")
    four = np.stack(
        [pixels[:, 0::2, 0::2], pixels[:, 0::2, 1::2], pixels[:, 1::2, 0::2], pixels[:, 1::2, 1::2]]
    )
    return _mode(four, layer) if layer.categorical else _mean(four, layer)


def _mode(four: Pixels, layer: Layer) -> Pixels:
    """The most frequent of four numbers, as sorted: it has an equal neighbour, or is the first.

    The number for no answer is the greatest there is, so that it sorts behind all others.
    """
    a, b, c, d = np.sort(four, axis=0)
    second = (b == c) & (a != b) & (b != layer.nodata)
    third = (c == d) & (b != c) & (a != b) & (c != layer.nodata)
    found: Pixels = np.where(second, b, np.where(third, c, a))
    return found.astype(layer.dtype)


def _mean(four: Pixels, layer: Layer) -> Pixels:
    valid = layer.valid(four)
    count = valid.sum(axis=0)
    total = np.where(valid, four, 0).astype(np.float64).sum(axis=0)
    mean = total / np.maximum(count, 1)
    if layer.dtype.kind != "f":
        mean = np.rint(mean)
    return np.where(count > 0, mean, layer.nodata).astype(layer.dtype)
