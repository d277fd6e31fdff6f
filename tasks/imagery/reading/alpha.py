"""Tells whether a band that is declared alpha is a mask: it then has two values at most."""

from __future__ import annotations

import numpy as np
from rasterio.errors import RasterioError
from rasterio.windows import Window

from tasks.imagery.environment import MEBIBYTE, gdal_environment
from tasks.imagery.image import Image
from tasks.imagery.opening.dataset import open_dataset

_SIDE = 4  # blocks along an axis that are read
_MAX_BYTES = 64 * MEBIBYTE  # of these blocks, decoded
_OPTICAL = {"red", "green", "blue"}


def alpha_values(image: Image, read_role: str | None) -> int:
    """The number of different values in some blocks of an image's alpha band.

    The blocks are evenly spread, and read in full resolution: averaged overviews have values
    between those of a mask.

    Args:
        image: The image.
        read_role: IAM role to read S3 with, or None for the process's own identity.

    Returns:
        The number; 0 if the image has no alpha band or no optical ones beside it, or if its blocks
        are too large.

    Raises:
        SwathError: The image was replaced, or cannot be fetched.
    """
    if not image.alpha or _OPTICAL.isdisjoint(image.colours) or not _cheap(image):
        return 0
    height, width = image.block_shape
    rows, columns = _spread(image.height, height), _spread(image.width, width)
    found: set[object] = set()
    with gdal_environment(read_role, s3=image.in_s3):
        try:
            with open_dataset(image, read_role) as dataset:
                for top in rows:
                    for left in columns:
                        shape = min(width, image.width - left), min(height, image.height - top)
                        band = dataset.read(image.alpha, window=Window(left, top, *shape))
                        found.update(np.unique(band).tolist())
        except RasterioError:
            return 0
    return len(found)


def _cheap(image: Image) -> bool:
    """Whether the blocks are small enough; of some formats all pixels are decoded for the last."""
    rows, columns = image.block_shape
    pixels = image.width * image.height if image.sequential else _SIDE**2 * rows * columns
    return pixels * image.pixel_bytes <= _MAX_BYTES


def _spread(size: int, block: int) -> list[int]:
    """Offsets of some blocks along an axis, evenly spread from the first to the last."""
    last = -(-size // block) - 1
    return sorted({round(last * part / (_SIDE - 1)) * block for part in range(_SIDE)})
