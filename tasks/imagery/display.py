"""Colours to show an image's pixels in: a contrast stretch to 8 bits, or the colour table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.imagery.image import Palette
from tasks.imagery.reading.reduced import ReducedPixels

_PERCENTILES = (2, 98)  # of the valid pixels of a band: black and white, as in most viewers


def to_rgb(
    reduced: ReducedPixels, palette: Palette | None, nodata_colour: tuple[int, int, int]
) -> NDArray[np.uint8]:
    """Red, green and blue to show pixels in.

    Pixels of uint8 are shown as they are, all others between the 2nd and the 98th percentile of
    their band. Of complex pixels the magnitude is shown.

    Args:
        reduced: One band, or red, green and blue.
        palette: The image's colour table, or None.
        nodata_colour: Red, green and blue of pixels without data.

    Returns:
        uint8 (rows, columns, 3).
    """
    pixels, valid = reduced.pixels, reduced.valid
    if palette:
        rgb = look_up(pixels[0], palette)
    else:
        bands = [_stretched(band, valid) for band in pixels]
        rgb = np.stack(bands if len(bands) == len("RGB") else bands * 3, axis=-1)
    rgb[~valid] = nodata_colour
    return rgb


def look_up(indices: NDArray[Any], palette: Palette) -> NDArray[np.uint8]:
    """(rows, columns, 3) colours of indices into a colour table; black for those it lacks."""
    table = np.zeros((max(palette) + 2, 3), np.uint8)
    for index, colour in palette.items():
        table[index] = colour[:3]
    return np.asarray(table[np.minimum(indices.astype(np.int64), len(table) - 1)])


def _stretched(band: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A band as uint8."""
    if band.dtype == np.uint8:
        return band.copy()
    with np.errstate(over="ignore"):  # such a value is shown as infinity is
        values = (np.abs(band) if np.iscomplexobj(band) else band).astype(np.float32)
    seen = values[valid & np.isfinite(values)]
    if not len(seen):
        return np.zeros(band.shape, np.uint8)
    low, high = np.percentile(seen, _PERCENTILES)
    share = np.nan_to_num((values - low) / ((high - low) or 1))
    return np.asarray(np.clip(share, 0, 1) * 255, np.uint8)
