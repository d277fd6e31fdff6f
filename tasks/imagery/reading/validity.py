"""Decides which pixels of an image hold data: by nodata value, alpha, mask or colours."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.errors import RequestError
from tasks.imagery.image import Image

_CHUNK = 1 << 16  # pixels compared at once: the temporary arrays stay in the processor's cache


def with_nodata(image: Image, nodata: float | None) -> Image:
    """The image with another nodata value, which replaces the nodata value and mask of its file.

    Args:
        image: The image.
        nodata: Value of pixels without data, in every band but alpha; None for no change.

    Raises:
        RequestError: No pixel of this type can have the value.
    """
    if nodata is None:
        return image
    check_value("imageNodata", nodata, image)
    return replace(image, nodata=nodata, has_mask=False)


def check_value(field: str, value: float, image: Image) -> None:
    """Refuse a value that no pixel of an image can have.

    Args:
        field: The field of the request that gives it.
        value: The value.
        image: The image.

    Raises:
        RequestError: It is beyond the pixel type, or has a fraction and the type has none.
    """
    dtype = np.dtype(image.dtype)
    integer = dtype.kind in "iu"
    limits = np.iinfo(dtype) if integer else np.finfo(dtype)
    lowest, highest = (
        (limits.min, limits.max) if integer else (float(limits.min), float(limits.max))
    )
    possible = lowest <= value <= highest and (not integer or float(value).is_integer())
    if not possible and (integer or isfinite(value)):
        raise RequestError(
            f"{field}: {value:g} is not a value of the {dtype} pixels of {image.url}: give one "
            f"from {lowest} to {highest}, or leave it out."
        )


def without_alpha(image: Image) -> Image:
    """The image with its alpha band as one that says nothing of the others."""
    if not image.alpha:
        return image
    colours = tuple("undefined" if colour == "alpha" else colour for colour in image.colours)
    return replace(image, alpha=None, has_mask=False, colours=colours)


def valid_pixels(
    image: Image,
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    pixels: NDArray[Any],
    window: Window,
) -> NDArray[np.bool_] | bool:
    """Decide which pixels hold data: by nodata in every band, else by alpha, mask or colours.

    Args:
        image: The image.
        dataset: The image's open dataset, from which a mask is read.
        pixels: (bands, rows, columns) of the window, in the pixel type of the image; fewer rows and
            columns than the window if it is reduced.
        window: Window in pixels of the full image.

    Returns:
        bool (rows, columns), True where at least one band holds data; the single value True if all
        pixels do.
    """
    if needs_mask(image):
        return np.asarray(dataset.dataset_mask(out_shape=pixels.shape[1:], window=window) != 0)
    return valid_by_value(image, pixels) if image.masked else True


def needs_mask(image: Image) -> bool:
    """Whether a mask in the file decides which pixels hold data, not their own values."""
    return image.has_mask and image.nodata is None and not image.alpha


def valid_by_value(image: Image, pixels: NDArray[Any]) -> NDArray[np.bool_]:
    """Decide which pixels hold data by nodata, alpha or colours, for an image with one of them.

    Args:
        image: The image.
        pixels: (bands, rows, columns) in the pixel type of the image.

    Returns:
        bool (rows, columns), True where at least one band holds data.
    """
    if image.nodata is not None:
        bands = [band for number, band in enumerate(pixels, 1) if number != image.alpha]
        return _any_differs(bands, image.nodata)
    if image.alpha:
        return np.asarray(pixels[image.alpha - 1] != 0)
    return np.isin(pixels[0], image.transparent, invert=True)


def _any_differs(bands: list[NDArray[Any]], nodata: float) -> NDArray[np.bool_]:
    """(rows, columns) True where at least one of the bands differs from a nodata value."""
    rows, columns = bands[0].shape
    valid = np.empty((rows, columns), np.bool_)
    step = max(1, _CHUNK // columns)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        valid[part] = differs(bands[0][part], nodata)
        for band in bands[1:]:
            valid[part] |= differs(band[part], nodata)
    return valid


def differs(band: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    """(rows, columns) True where pixels differ from a nodata value, exactly as in GDAL's masks.

    GDAL compares the real part of complex pixels. It compares floats in the arithmetic of the pixel
    type, with a tolerance of twice the float32 epsilon times their sum (ARE_REAL_EQUAL). Near the
    limits of the type the sum overflows, so that any value of that magnitude is equal: -3.40282e38,
    as some writers shorten it, matches the lowest float32.
    """
    values = band.real
    nodata = values.dtype.type(nodata)
    if np.isnan(nodata):
        return np.asarray(~np.isnan(values))
    unequal: NDArray[np.bool_] = values != nodata
    if values.dtype.kind == "f" and nodata != 0 and np.isfinite(nodata):
        epsilon = values.dtype.type(np.finfo(np.float32).eps)
        with np.errstate(over="ignore", invalid="ignore"):
            tolerance = epsilon * np.abs(values + nodata) * 2
            unequal &= ~(np.abs(values - nodata) < tolerance)
    return unequal
