"""The map of a tile that was sent at another resolution, in pixels of the image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.inference.description.resample import Validity, resize
from tasks.raster.tile_maps import TileMap
from tasks.request import RasterOutput


def resampled_map(pixels: TileMap, output: RasterOutput, size: tuple[int, int]) -> TileMap:
    """A map in larger or smaller pixels.

    Numbers of classes are those of the nearest pixel. Probabilities and values are averaged where
    pixels become larger, and interpolated linearly where they become smaller; pixels without an
    answer take no part in it.

    Args:
        pixels: (bands, height, width) of the tile as it was sent.
        output: What it holds.
        size: Width and height of the result.
    """
    smooth = output.has_probabilities or output.is_values
    target: TileMap = np.empty((len(pixels), size[1], size[0]), pixels.dtype)
    for band, result in zip(pixels, target, strict=True):
        _resample(band, result, "area" if smooth else "nearest")
    return target


def _resample(band: NDArray[Any], result: NDArray[Any], method: str) -> None:
    size = result.shape[1], result.shape[0]
    answered = np.isfinite(band)
    resizing = resize if answered.all() or not answered.any() else Validity.of(answered).resize
    whole = band.dtype.kind in "iu"
    for rows, values in resizing(band, size, method):
        result[rows] = np.rint(values) if whole else values
