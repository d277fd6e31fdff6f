"""Windows of strips: which pixels a row of tiles needs, and how windows lie to each other."""

from __future__ import annotations

from collections.abc import Iterator

from rasterio.windows import Window

from tasks.grid.tiles import Tile
from tasks.imagery.environment import MEBIBYTE
from tasks.imagery.image import Image

_PIXELS = 528 * MEBIBYTE  # for strips and GDAL's blocks: a run takes 1 GiB in all
_LIVE = 3  # strips: being read, waiting, and held by the batches at the model
_CACHE = 16 * MEBIBYTE  # for GDAL's blocks, at least
_SCALE = 1 << 20  # pixels: a width at which nothing has its least value
_TALL = 1024  # rows of a block beyond which a strip does not reach for whole blocks


def block_cache(row: list[Tile], image: Image) -> int:
    """Bytes of GDAL's cache for the blocks that a row of tiles lies in.

    Strips end where blocks do, so no block is asked for again; but those taller than a strip are.
    """
    height, width = image.block_shape
    if height <= _TALL:
        return _CACHE
    window = around(row)
    blocks = 2 - (-(window.col_off + window.width) // width) - window.col_off // width
    return int(max(_CACHE, blocks * width * height * image.pixel_bytes))


def max_region_width(image: Image, tile_height: int) -> int:
    """Pixels in x that a region may have for what is read of it to fit in memory."""
    few, many = (reading_bytes(image, tile_height, width) for width in (_SCALE, 2 * _SCALE))
    fixed = 2 * few - many
    return max(1, (_PIXELS - fixed) * _SCALE // (many - few))


def reading_bytes(image: Image, tile_height: int, width: int) -> int:
    """Memory that the strips of a region and GDAL's blocks take, for a width in pixels."""
    block_height, block_width = image.block_shape
    rows, cache = tile_height + block_height - 1, _CACHE
    if block_height > _TALL:
        rows = tile_height
        cache = max(_CACHE, (width + 3 * block_width) * block_height * image.pixel_bytes)
    return _LIVE * rows * width * (image.pixel_bytes + image.masked) + cache


def spans(row: list[Tile], image: Image) -> list[tuple[Window, list[Tile]]]:
    """The windows to read for one row of tiles: down to the end of a row of blocks.

    Tiles with less than a block between them share one.
    """
    block_height, block_width = image.block_shape
    bottom = row[0].window.row_off + row[0].window.height
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
    return [(around(group, bottom), group) for group in groups]


def around(tiles: list[Tile], bottom: int | None = None) -> Window:
    """The window of tiles of one row, down to `bottom` or as far as they reach."""
    first, last = tiles[0].window, tiles[-1].window
    height = first.height if bottom is None else bottom - first.row_off
    return Window(first.col_off, first.row_off, last.col_off + last.width - first.col_off, height)


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
