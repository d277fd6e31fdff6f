"""Estimates where an image has data, from the smallest overview that still resolves a tile."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window
from scipy.ndimage import maximum_filter

from tasks.imagery.environment import MEBIBYTE, gdal_environment
from tasks.imagery.image import Image
from tasks.imagery.opening.allowed_inputs import check_raster
from tasks.imagery.reading.validity import valid_pixels

_MIN_TILE = 8  # minimum side of a tile in pixels of the overview
_MAX_BYTES = 256 * MEBIBYTE  # of a decoded overview
_DILATION = 3  # width of the filter in pixels: one on each side


@dataclass(frozen=True, slots=True)
class DataMask:
    """An estimate of which parts of an image hold data.

    An overview made by nearest neighbour loses single pixels, and files do not say how their
    overviews were made. So it is only used to estimate a run, never to skip tiles.

    Attributes:
        valid: (rows, columns) of the overview, True for pixels with data, dilated by one pixel.
        scale: Overview pixels per image pixel, in y and x.
    """

    valid: NDArray[np.bool_]
    scale: tuple[float, float]

    def blank(self, window: Window) -> bool:
        """Whether a window, in pixels of the full image, seems to hold no data."""
        y, x = self.scale
        rows = slice(floor(window.row_off * y), ceil((window.row_off + window.height) * y))
        columns = slice(floor(window.col_off * x), ceil((window.col_off + window.width) * x))
        return not self.valid[rows, columns].any()


def read_data_mask(image: Image, tile_size: int, read_role: str | None) -> DataMask | None:
    """Read an overview of an image; None if no overview fits, or if all pixels are valid.

    Args:
        image: The image.
        tile_size: Pixels along the side of a tile, which the overview must resolve.
        read_role: IAM role to read S3 with, or None for the process's own identity.
    """
    fitting = {f: level for level, f in enumerate(image.overviews) if f * _MIN_TILE <= tile_size}
    if not image.masked or not fitting:
        return None
    factor = max(fitting)
    if image.width * image.height * image.pixel_bytes / factor**2 > _MAX_BYTES:
        return None
    with gdal_environment(read_role, s3=image.in_s3):
        try:
            with rasterio.open(
                image.gdal_name, driver=image.driver, OVERVIEW_LEVEL=fitting[factor]
            ) as overview:
                check_raster(image.url, overview)
                window = Window(0, 0, overview.width, overview.height)
                valid = valid_pixels(image, overview, overview.read(), window)
        except RasterioError:
            return None
    scale = window.height / image.height, window.width / image.width
    return DataMask(maximum_filter(valid, _DILATION), scale)
