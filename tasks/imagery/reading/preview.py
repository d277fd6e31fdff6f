"""Where an image has data, seen from afar: on its smallest overview that still shows a tile."""

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

_FINE = 8  # overview pixels that a tile's side should have at least
_MOST_BYTES = 256 * MEBIBYTE  # of an overview, decoded
_DILATION = 3  # pixels of the filter: one on each side


@dataclass(frozen=True, slots=True)
class Preview:
    """Which parts of an image seem to hold data.

    An overview made by nearest neighbour forgets lone pixels, and no file says how it was made, so
    this tells what a run may take, never what it leaves out.

    Attributes:
        valid: (rows, columns) of the overview, dilated by a pixel.
        scale: Overview pixels in an image pixel, in y and x.
    """

    valid: NDArray[np.bool_]
    scale: tuple[float, float]

    def blank(self, window: Window) -> bool:
        """Whether a window of the image seems to hold no data."""
        y, x = self.scale
        rows = slice(floor(window.row_off * y), ceil((window.row_off + window.height) * y))
        columns = slice(floor(window.col_off * x), ceil((window.col_off + window.width) * x))
        return not self.valid[rows, columns].any()


def read_preview(image: Image, tile_size: int, read_role: str | None) -> Preview | None:
    """Look at an image's overview; None where it has none that is small, or none is needed.

    Args:
        image: As opened.
        tile_size: Pixels of a tile's side, which the overview must not lose.
        read_role: IAM role to read S3 with, or None for the process's own identity.
    """
    fitting = {f: level for level, f in enumerate(image.overviews) if f * _FINE <= tile_size}
    if not image.masked or not fitting:
        return None
    factor = max(fitting)
    if image.width * image.height * image.pixel_bytes / factor**2 > _MOST_BYTES:
        return None
    with gdal_environment(read_role, s3=image.in_s3):
        try:
            with rasterio.open(
                image.gdal_name, driver=image.driver, OVERVIEW_LEVEL=fitting[factor]
            ) as far:
                check_raster(image.url, far)
                window = Window(0, 0, far.width, far.height)
                valid = valid_pixels(image, far, far.read(), window)
        except RasterioError:
            return None
    scale = window.height / image.height, window.width / image.width
    return Preview(maximum_filter(valid, _DILATION), scale)
