"""Which pixels of an image hold data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.imagery.source import Image


def valid_pixels(
    image: Image,
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    pixels: NDArray[Any],
    window: Window,
) -> NDArray[np.bool_] | bool:
    """Tell data from nodata, as GDAL does: by alpha, else by mask, else by nodata in every band.

    Args:
        image: As opened.
        dataset: Its open handle, to read a mask from.
        pixels: (bands, rows, columns) of the window.
        window: Pixels of the full image.

    Returns:
        (rows, columns), True where at least one band holds data; plain True where all do.
    """
    if image.alpha:
        return np.asarray(pixels[image.alpha - 1] != 0)
    if image.has_mask:
        return np.asarray(dataset.dataset_mask(window=window) != 0)
    if image.nodata is None:
        return True
    if np.isnan(image.nodata):
        return np.asarray(~np.isnan(pixels).all(axis=0))
    nodata = np.dtype(image.dtype).type(image.nodata)
    valid = pixels[0] != nodata
    for band in pixels[1:]:
        valid |= band != nodata
    return np.asarray(valid)
