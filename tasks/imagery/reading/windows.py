"""Windows of strips: the pixels to read for a row of tiles, and the memory that they need."""

from __future__ import annotations

from collections.abc import Iterator

from rasterio.windows import Window

from tasks.grid.tiles import Tile
from tasks.imagery.environment import MEBIBYTE
from tasks.imagery.image import Image
from tasks.imagery.reading.validity import needs_mask

_PIXEL_MEMORY = 528 * MEBIBYTE  # for strips and GDAL's block cache; a region's run has 1 GiB
_LIVE_STRIPS = 3  # one that is read, one that waits, one whose tiles are sent to the model
_MIN_CACHE = 16 * MEBIBYTE  # of GDAL's block cache
_SAMPLE_WIDTH = 1 << 20  # pixels, for computing bytes per pixel: beyond the effect of minimums
_MIN_DIVIDED = 4 * MEBIBYTE  # of a window's pixels: less is not worth a second thread
_TALL_BLOCK = 1024  # rows: strips are not extended to whole blocks that are taller


def block_cache(row: list[Tile], image: Image) -> int:
    """Bytes that GDAL's block cache needs to read a row of tiles.

    Strips end at block boundaries, so no block is needed twice, except blocks taller than a strip.
    """
    height, width = image.block_shape
    if height <= _TALL_BLOCK:
        return _MIN_CACHE
    window = bounding_window(row)
    blocks = -(-(window.col_off + window.width) // width) - window.col_off // width + 2
    return int(max(_MIN_CACHE, blocks * width * height * image.pixel_bytes))


def max_region_width(image: Image, tile_height: int, other_bytes: int = 0) -> int:
    """The widest region, in pixels, whose strips fit in memory.

    Args:
        image: The image.
        tile_height: Rows of a tile.
        other_bytes: Memory that the region's run needs beside that of a model which answers with
            features.
    """
    # memory is linear in the width: a fixed part, and a part for each pixel
    once = reading_bytes(image, tile_height, _SAMPLE_WIDTH)
    twice = reading_bytes(image, tile_height, 2 * _SAMPLE_WIDTH)
    fixed = 2 * once - twice
    return max(1, (_PIXEL_MEMORY - other_bytes - fixed) * _SAMPLE_WIDTH // (twice - once))


def reading_bytes(image: Image, tile_height: int, width: int) -> int:
    """Bytes that the strips of a region and GDAL's block cache need, for a width in pixels."""
    block_height, block_width = image.block_shape
    extension, cache = block_height - 1, _MIN_CACHE  # of the last strip to whole blocks
    if block_height > _TALL_BLOCK:
        extension = 0
        cache = max(_MIN_CACHE, (width + 3 * block_width) * block_height * image.pixel_bytes)
    rows = _LIVE_STRIPS * tile_height + extension
    return rows * width * (image.pixel_bytes + needs_mask(image)) + cache


def spans(row: list[Tile], image: Image) -> list[tuple[Window, list[Tile]]]:
    """The windows to read for one row of tiles, extended down to a block boundary, and their tiles.

    Tiles with a gap of less than a block between them share a window.
    """
    block_height, block_width = image.block_shape
    bottom = row[0].window.row_off + row[0].window.height
    if block_height <= _TALL_BLOCK:
        bottom = min(image.height, -(-bottom // block_height) * block_height)
    groups: list[list[Tile]] = []
    end = 0
    for tile in row:
        if groups and tile.window.col_off - end < block_width:
            groups[-1].append(tile)
        else:
            groups.append([tile])
        end = tile.window.col_off + tile.window.width
    return [(bounding_window(group, bottom), group) for group in groups]


def bounding_window(tiles: list[Tile], bottom: int | None = None) -> Window:
    """The window that encloses tiles of one row, down to row `bottom` or to their own end."""
    first, last = tiles[0].window, tiles[-1].window
    height = first.height if bottom is None else bottom - first.row_off
    return Window(first.col_off, first.row_off, last.col_off + last.width - first.col_off, height)


def halves(window: Window, image: Image) -> list[Window]:
    """Two windows of about equal size that share no block and cover a window; or that window alone.

    It is not divided if it is small, or one block, or if GDAL decodes its format in one piece.
    """
    if image.driver != "GTiff" or window.width * window.height * image.pixel_bytes < _MIN_DIVIDED:
        return [window]
    height, width = image.block_shape
    x, y, right, bottom = _edges(window)
    middle = (x // width - (-right // width)) // 2 * width
    if middle > x:
        return [Window(x, y, middle - x, bottom - y), Window(middle, y, right - middle, bottom - y)]
    middle = (y // height - (-bottom // height)) // 2 * height
    if middle > y:
        return [Window(x, y, right - x, middle - y), Window(x, middle, right - x, bottom - middle)]
    return [window]


def _edges(window: Window) -> tuple[int, int, int, int]:
    x, y = window.col_off, window.row_off
    return x, y, x + window.width, y + window.height


def gaps(kept: list[tuple[int, int]], window: Window) -> Iterator[tuple[int, int]]:
    """The column ranges of a window between those that are kept, which are sorted by column."""
    edges = [window.col_off, *(edge for span in kept for edge in span)]
    edges.append(window.col_off + window.width)
    return ((a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b)


def slices(window: Window, within: Window) -> tuple[slice, slice]:
    """Rows and columns of a window in the array of another window that contains it."""
    row, column = window.row_off - within.row_off, window.col_off - within.col_off
    return slice(row, row + window.height), slice(column, column + window.width)


def intersection(one: Window, two: Window) -> Window | None:
    """The intersection of two windows, or None if it is empty."""
    left, top = max(one.col_off, two.col_off), max(one.row_off, two.row_off)
    right = min(one.col_off + one.width, two.col_off + two.width)
    bottom = min(one.row_off + one.height, two.row_off + two.height)
    return Window(left, top, right - left, bottom - top) if left < right and top < bottom else None
