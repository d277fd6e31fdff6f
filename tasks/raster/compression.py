"""The bytes of a block in a TIFF: its pixels, predicted and deflated.

TIFF 6.0 section 14 (predictor 2), and Adobe's TIFF Technical Note 3 (predictor 3, of floats).
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.raster.blocks import BLOCK
from tasks.raster.layers import Layer

_SMALLEST, _FASTEST = 6, 1  # levels of zlib, whose bytes do not depend on the processor
NO_PREDICTOR, DIFFERENCES, FLOATS = 1, 2, 3


def predictor(layer: Layer) -> int:
    """The predictor of a layer's blocks, as TIFF numbers them."""
    if layer.categorical:  # differences of classes are no smaller than classes
        return NO_PREDICTOR
    return FLOATS if layer.dtype.kind == "f" else DIFFERENCES


def compress(pixels: NDArray[Any], layer: Layer) -> bytes:
    """The bytes of a block.

    Args:
        pixels: (bands, height, width), at most a block; the rest is filled with the last row and
            column.
        layer: The layer.
    """
    _, height, width = pixels.shape
    if (height, width) != (BLOCK, BLOCK):
        pixels = np.pad(pixels, ((0, 0), (0, BLOCK - height), (0, BLOCK - width)), "edge")
    chunky = np.ascontiguousarray(pixels.transpose(1, 2, 0))  # rows, columns, bands
    if layer.categorical:
        return zlib.compress(chunky.tobytes(), _SMALLEST)
    # predicted numbers repeat themselves only in runs: a fifth to a half of the usual time
    runs = zlib.compressobj(_FASTEST, strategy=zlib.Z_RLE)
    return runs.compress(_predicted(chunky, predictor(layer))) + runs.flush()


def decompress(body: bytes, layer: Layer) -> NDArray[Any]:
    """(bands, BLOCK, BLOCK) the pixels of a block."""
    shape = BLOCK, BLOCK, len(layer.bands)
    plain = zlib.decompress(body, bufsize=BLOCK * BLOCK * layer.pixel_bytes)
    match predictor(layer):
        case 2:
            differences = np.frombuffer(plain, layer.dtype).reshape(shape)
            chunky = np.add.accumulate(differences, axis=1, dtype=layer.dtype)
        case 3:
            differences = np.frombuffer(plain, np.uint8).reshape(BLOCK, -1, shape[2])
            planes = np.add.accumulate(differences, axis=1, dtype=np.uint8)
            split = planes.reshape(BLOCK, layer.dtype.itemsize, -1).transpose(0, 2, 1)
            big = layer.dtype.newbyteorder(">")
            chunky = np.ascontiguousarray(split).view(big).reshape(shape).astype(layer.dtype)
        case _:
            chunky = np.frombuffer(plain, layer.dtype).reshape(shape)
    return chunky.transpose(2, 0, 1)


def _predicted(chunky: NDArray[Any], kind: int) -> bytes:
    if kind == FLOATS:
        rows, columns, bands = chunky.shape
        big = chunky.astype(chunky.dtype.newbyteorder(">"))
        split = big.view(np.uint8).reshape(rows, columns * bands, -1).transpose(0, 2, 1)
        chunky = np.ascontiguousarray(split).reshape(rows, -1, bands)
    differences = chunky.copy()
    differences[:, 1:] -= chunky[:, :-1]
    return differences.tobytes()
