"""The pixels of a model's output as those of the tile that it is about."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.inference.description.preprocessing.placement import Placement
from tasks.inference.description.preprocessing.resample import resize


def in_tile(bands: NDArray[Any], placement: Placement, method: str) -> NDArray[Any]:
    """The bands of a tile in its own size: enlarged to the input, and without its padding.

    Args:
        bands: (bands, height, width) of the output, which covers the whole input.
        placement: Where the tile lies in the input.
        method: How pixels are resampled, as in `resample.resize`.
    """
    width, height = placement.content
    bands = _resized(bands, placement.canvas, method)
    content = bands[:, placement.top :, placement.left :][:, :height, :width]
    return _resized(content, placement.tile, method)


def _resized(bands: NDArray[Any], size: tuple[int, int], method: str) -> NDArray[Any]:
    if bands.shape[:0:-1] == size:
        return bands
    dtype = bands.dtype if method == "nearest" else np.float32
    resized = np.empty((len(bands), size[1], size[0]), dtype)
    for band, target in zip(bands, resized, strict=True):
        for rows, part in resize(band, size, method):
            target[rows] = part
    return resized
