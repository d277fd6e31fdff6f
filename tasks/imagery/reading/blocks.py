"""The blocks in which an image is stored: their sizes in bytes, and which are absent.

A sparse TIFF leaves out blocks that were never written. TIFF 6.0 does not define this, but GDAL
writes such files, and so do many providers of cloud-optimised GeoTIFF.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.imagery.image import Image


def block_sizes(image: Image, dataset: Any, window: Window) -> NDArray[np.int64]:  # noqa: ANN401 - no types
    """The stored size in bytes of each block that intersects a window.

    Args:
        image: The image.
        dataset: The image's open dataset.
        window: Window in pixels of the full image.

    Returns:
        int64 (rows of blocks, columns of blocks); 0 for a block that is absent from a TIFF. In
        formats without a block index, each block is taken as an equal share of the file.
    """
    rows, columns = _block_range(image, window)
    shape = rows.stop - rows.start, columns.stop - columns.start
    if image.driver != "GTiff":
        share = image.stored_bytes * image.block_shape[0] * image.block_shape[1]
        return np.full(shape, -(-share // (image.width * image.height)), np.int64)
    sizes = [_stored_size(dataset, row, column) for row, column in _each(rows, columns)]
    return np.array(sizes, np.int64).reshape(shape)


def stored_bytes(image: Image, dataset: Any, window: Window) -> int:  # noqa: ANN401
    """Stored bytes of the blocks that intersect a window, as `block_sizes`.

    Args:
        image: The image.
        dataset: The image's open dataset.
        window: Window in pixels of the full image.
    """
    return int(block_sizes(image, dataset, window).sum())


def any_stored(image: Image, dataset: Any, window: Window) -> bool:  # noqa: ANN401
    """Whether the file stores at least one of the blocks that intersect a window."""
    blocks = _each(*_block_range(image, window))
    return image.driver != "GTiff" or any(_stored_size(dataset, *block) for block in blocks)


def stored_ranges(image: Image, dataset: Any, window: Window) -> list[tuple[int, int]]:  # noqa: ANN401
    """Where the blocks that intersect a window are stored.

    Args:
        image: The image.
        dataset: The image's open dataset.
        window: Window in pixels of the full image.

    Returns:
        Offset and count of bytes of each block that is stored, in the order of the file. In formats
        without a block index, one range: the share of the file that the window's rows would have
        if all rows took as many bytes.
    """
    if image.driver != "GTiff":
        first = image.stored_bytes * window.row_off // image.height
        return [(first, -(-image.stored_bytes * window.height // image.height))]
    ranges = (
        (_item(dataset, "OFFSET", *block, band), _item(dataset, "SIZE", *block, band))
        for block in _each(*_block_range(image, window))
        for band in _stored_bands(dataset)
    )
    return sorted((offset, size) for offset, size in ranges if size)


def block_slices(image: Image, window: Window, within: Window) -> tuple[slice, slice]:
    """Slices that select the blocks of `window` in an array of the blocks of `within`."""
    rows, columns = _block_range(image, window)
    first_rows, first_columns = _block_range(image, within)
    return (
        slice(rows.start - first_rows.start, rows.stop - first_rows.start),
        slice(columns.start - first_columns.start, columns.stop - first_columns.start),
    )


def absent_blocks_are_blank(image: Image) -> bool:
    """Whether absent blocks are blank: only if neither nodata, alpha nor a mask decides it.

    Of an overview they are not known.
    """
    return image.driver == "GTiff" and not image.masked and image.overview is None


def _block_range(image: Image, window: Window) -> tuple[slice, slice]:
    height, width = image.block_shape
    return (
        slice(window.row_off // height, -(-(window.row_off + window.height) // height)),
        slice(window.col_off // width, -(-(window.col_off + window.width) // width)),
    )


def _each(rows: slice, columns: slice) -> Iterator[tuple[int, int]]:
    return product(range(rows.start, rows.stop), range(columns.start, columns.stop))


def _stored_size(dataset: Any, row: int, column: int) -> int:  # noqa: ANN401
    """Stored bytes of a block of a TIFF, summed over the bands if each has its own blocks."""
    return sum(_item(dataset, "SIZE", row, column, band) for band in _stored_bands(dataset))


def _stored_bands(dataset: Any) -> range:  # noqa: ANN401
    """The bands of a TIFF that have blocks of their own: the first stands for all that share."""
    separate = dataset.interleaving is not None and dataset.interleaving.name == "band"
    return range(1, dataset.count + 1 if separate else 2)


def _item(dataset: Any, name: str, row: int, column: int, band: int) -> int:  # noqa: ANN401
    """An entry of the block index of a TIFF: OFFSET or SIZE in bytes; 0 for an absent block."""
    return int(dataset.get_tag_item(f"BLOCK_{name}_{column}_{row}", "TIFF", bidx=band) or 0)
