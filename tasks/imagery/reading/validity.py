"""Which pixels of an image hold data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.errors import RequestError
from tasks.imagery.image import Image


def with_nodata(image: Image, nodata: float | None) -> Image:
    """An image whose pixels of this value hold no data, whatever it says itself.

    Args:
        image: As opened.
        nodata: The value, in every band but alpha; None leaves the image as it is.

    Raises:
        RequestError: Its pixels can never have this value.
    """
    if nodata is None:
        return image
    dtype = np.dtype(image.dtype)
    if dtype.kind in "iu" and not _fits(nodata, np.iinfo(dtype)):
        raise RequestError(
            f"imageNodata: {nodata:g} is no value of the {dtype} pixels of {image.url}: give one "
            f"from {np.iinfo(dtype).min} to {np.iinfo(dtype).max}, or leave it out."
        )
    return replace(image, nodata=nodata, has_mask=False)


def valid_pixels(
    image: Image,
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    pixels: NDArray[Any],
    window: Window,
) -> NDArray[np.bool_] | bool:
    """Tell data from nodata, as GDAL does: by nodata in every band, else by alpha, else by mask.

    Args:
        image: As opened.
        dataset: Its open handle, to read a mask from.
        pixels: (bands, rows, columns) of the window.
        window: Pixels of the full image.

    Returns:
        (rows, columns), True where at least one band holds data; plain True where all do.
    """
    if image.nodata is not None:
        colours = [band for number, band in enumerate(pixels, 1) if number != image.alpha]
        return _differ(colours, np.dtype(image.dtype).type(image.nodata))
    if image.alpha:
        return np.asarray(pixels[image.alpha - 1] != 0)
    if image.has_mask:
        return np.asarray(dataset.dataset_mask(window=window) != 0)
    return True


def _differ(bands: list[NDArray[Any]], nodata: Any) -> NDArray[np.bool_]:  # noqa: ANN401
    """Where at least one band has another value."""
    if np.isnan(nodata):
        return np.asarray(~np.logical_and.reduce([np.isnan(band) for band in bands]))
    valid: NDArray[np.bool_] = bands[0] != nodata
    for band in bands[1:]:
        valid |= band != nodata
    return valid


def _fits(value: float, limits: np.iinfo[Any]) -> bool:
    return float(value).is_integer() and limits.min <= value <= limits.max
