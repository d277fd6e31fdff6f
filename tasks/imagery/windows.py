"""Windows of strips: which pixels a row of tiles needs, and how windows lie to each other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rasterio.windows import Window

from tasks.imagery.environment import MEBIBYTE
from tasks.imagery.source import Image
from tasks.tiling import Tile

_CACHE = 16 * MEBIBYTE, 256 * MEBIBYTE  # the least and most for GDAL's blocks
_TALL = 1024  # rows of a block beyond which a strip does not reach for whole blocks


def block_cache(row: list[Tile], image: Image) -> int:
    """Bytes of GDAL's cache for two rows of the blocks that a row of tiles lies in."""
    height, width = image.block_shape
    left, right = row[0].window.col_off, row[-1].window.col_off + row[-1].window.width
    columns = (-(-right // width) - left // width) * width
    bytes_a_pixel = image.bands * np.dtype(image.dtype).itemsize
    return int(np.clip(2 * height * columns * bytes_a_pixel, *_CACHE))


def spans(row: list[Tile], image: Image) -> list[tuple[Window, list[Tile]]]:
    """The windows to read for one row of tiles: down to the end of a row of blocks.

    Tiles with less than a block between them share one.
    """
    block_height, block_width = image.block_shape
    top, bottom = row[0].window.row_off, row[0].window.row_off + row[0].window.height
    if block_height <= _TALL:
        bottom = min(image.height, -(-bottom // block_height) * block_height)
    groups: list[list[Tile]] = []
    end = 0
    for tile in row:
        if groups and tile.window.col_off - end < block_width:
            groups[-1].append(tile)
        else:
            groups.append([tile])
        end = tile.window.col_off + tile.window.width
    return [(_around(group, top, bottom), group) for group in groups]


def _around(tiles: list[Tile], top: int, bottom: int) -> Window:
    left = tiles[0].window.col_off
    right = tiles[-1].window.col_off + tiles[-1].window.width
    return Window(left, top, right - left, bottom - top)


def gaps(kept: list[tuple[int, int]], window: Window) -> Iterator[tuple[int, int]]:
    """The columns of a window that are not among those kept, which run from left to right."""
    edges = [window.col_off, *(edge for span in kept for edge in span)]
    edges.append(window.col_off + window.width)
    return ((a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b)


def slices(window: Window, within: Window) -> tuple[slice, slice]:
    """Rows and columns of a window in the array of another that holds it."""
    row, column = window.row_off - within.row_off, window.col_off - within.col_off
    return slice(row, row + window.height), slice(column, column + window.width)


def intersection(one: Window, two: Window) -> Window | None:
    """What two windows share, or None."""
    left, top = max(one.col_off, two.col_off), max(one.row_off, two.row_off)
    right = min(one.col_off + one.width, two.col_off + two.width)
    bottom = min(one.row_off + one.height, two.row_off + two.height)
    return Window(left, top, right - left, bottom - top) if left < right and top < bottom else None
