"""The pixels of a model's output as those of the tile that it is about."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import AnswerError
from tasks.inference.description.preprocessing.placement import Placement
from tasks.inference.description.resample import resize


def in_tile(bands: NDArray[Any], placement: Placement, method: str) -> NDArray[Any]:
    """The bands of a tile in its own size: enlarged to the input, and without its padding.

    Args:
        bands: (bands, height, width) of the output, which covers the whole input.
        placement: Where the tile lies in the input.
        method: How pixels are resampled, as in `resample.resize`.

    Raises:
        AnswerError: The output does not cover the input: it is no whole fraction of it.
    """
    width, height = placement.content
    _check_stride(bands.shape[:0:-1], placement.canvas)
    bands = _resized(bands, placement.canvas, method)
    content = bands[:, placement.top :, placement.left :][:, :height, :width]
    return _resized(content, placement.tile, method)


def _check_stride(size: tuple[int, ...], canvas: tuple[int, int]) -> None:
    """Check that an output is as large as the input, or smaller by a stride."""
    for side, whole in zip(size, canvas, strict=True):
        stride = round(whole / side) if side else 0
        if not stride or side not in {whole // stride, -(-whole // stride)}:
            raise AnswerError(
                f"The model's output has {size[0]} × {size[1]} pixels for an input of {canvas[0]} "
                f"× {canvas[1]}: it must have as many, or fewer by a stride (1/2, 1/4, …); export "
                "a model that pads its input instead of cutting its borders off."
            )


def _resized(bands: NDArray[Any], size: tuple[int, int], method: str) -> NDArray[Any]:
    if bands.shape[:0:-1] == size:
        return bands
    dtype = bands.dtype if method == "nearest" else np.float32
    resized = np.empty((len(bands), size[1], size[0]), dtype)
    for band, target in zip(bands, resized, strict=True):
        for rows, part in resize(band, size, method):
            target[rows] = part
    return resized
