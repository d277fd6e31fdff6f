"""The blocks that an image is stored in: how many bytes each takes, and which are not there.

A sparse TIFF leaves out blocks that were never written (TIFF 6.0 knows no such thing; GDAL and the
cloud-optimised files of many providers do).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.imagery.image import Image

Sizes = NDArray[np.int64]


def block_sizes(image: Image, dataset: Any, window: Window) -> Sizes:  # noqa: ANN401 - no types
    """Bytes that each block takes in the file, of the blocks that a window touches.

    Args:
        image: As opened.
        dataset: Its open handle.
        window: Pixels of the full image.

    Returns:
        (rows, columns) of blocks; 0 where a TIFF holds no such block. Formats without an index of
        their blocks give every block its even share of the file.
    """
    rows, columns = _touched(image, window)
    shape = rows.stop - rows.start, columns.stop - columns.start
    if image.driver != "GTiff":
        share = image.stored_bytes * image.block_shape[0] * image.block_shape[1]
        return np.full(shape, -(-share // (image.width * image.height)), np.int64)
    sizes = [_stored(dataset, row, column) for row, column in _each(rows, columns)]
    return np.array(sizes, np.int64).reshape(shape)


def any_stored(image: Image, dataset: Any, window: Window) -> bool:  # noqa: ANN401
    """Whether the file holds any of the blocks that a window touches."""
    blocks = _each(*_touched(image, window))
    return image.driver != "GTiff" or any(_stored(dataset, *block) for block in blocks)


def touched_blocks(image: Image, window: Window, within: Window) -> tuple[slice, slice]:
    """Rows and columns of the blocks that a window touches, counted from another's first."""
    rows, columns = _touched(image, window)
    first_rows, first_columns = _touched(image, within)
    return (
        slice(rows.start - first_rows.start, rows.stop - first_rows.start),
        slice(columns.start - first_columns.start, columns.stop - first_columns.start),
    )


def absent_blocks_are_blank(image: Image) -> bool:
    """Whether what the file leaves out is blank; where pixels say so, they do it for it too."""
    return image.driver == "GTiff" and not image.masked


def _touched(image: Image, window: Window) -> tuple[slice, slice]:
    height, width = image.block_shape
    return (
        slice(window.row_off // height, -(-(window.row_off + window.height) // height)),
        slice(window.col_off // width, -(-(window.col_off + window.width) // width)),
    )


def _each(rows: slice, columns: slice) -> Iterator[tuple[int, int]]:
    return product(range(rows.start, rows.stop), range(columns.start, columns.stop))


def _stored(dataset: Any, row: int, column: int) -> int:  # noqa: ANN401
    """Bytes of a block of a TIFF, of all bands where each has its own."""
    apart = dataset.interleaving is not None and dataset.interleaving.name == "band"
    item = f"BLOCK_SIZE_{column}_{row}"
    bands = range(1, dataset.count + 1 if apart else 2)
    return sum(int(dataset.get_tag_item(item, "TIFF", bidx=band) or 0) for band in bands)
