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
from tasks.raster.row_strips import row_strips

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
    compressor = BlockCompressor(layer)
    for rows in row_strips(pixels.shape[1], BLOCK * layer.pixel_bytes):
        compressor.add(pixels[:, rows])
    return compressor.finish()


class BlockCompressor:
    """Makes the bytes of a block from strips of it, whatever their heights."""

    def __init__(self, layer: Layer) -> None:
        """Start without a row."""
        self._layer, self._rows, self._body = layer, 0, list[bytes]()
        self._last: NDArray[Any] | None = None  # row
        if layer.categorical:
            self._deflate = zlib.compressobj(_SMALLEST)
        else:
            # predicted numbers repeat themselves only in runs: a fifth to a half of the usual time
            self._deflate = zlib.compressobj(_FASTEST, strategy=zlib.Z_RLE)

    def add(self, pixels: NDArray[Any]) -> None:
        """Take the next rows, (bands, height, width); they are filled with the last column."""
        _, height, width = pixels.shape
        if width < BLOCK:
            pixels = np.pad(pixels, ((0, 0), (0, 0), (0, BLOCK - width)), "edge")
        chunky = np.ascontiguousarray(pixels.transpose(1, 2, 0))  # rows, columns, bands
        plain = chunky.tobytes() if self._layer.categorical else _predicted(chunky, self._layer)
        self._body.append(self._deflate.compress(plain))
        self._rows, self._last = self._rows + height, pixels[:, -1:]

    def finish(self) -> bytes:
        """The bytes of the block; the rows that have not come are as the last one."""
        assert self._last is not None
        last = self._last
        for rows in row_strips(BLOCK - self._rows, BLOCK * self._layer.pixel_bytes):
            self.add(np.repeat(last, rows.stop - rows.start, axis=1))
        return b"".join([*self._body, self._deflate.flush()])


def decompress(body: bytes, layer: Layer) -> NDArray[Any]:
    """(bands, BLOCK, BLOCK) the pixels of a block; raises zlib.error for other bytes."""
    chunky: NDArray[Any] = np.empty((BLOCK, BLOCK, len(layer.bands)), layer.dtype)
    row_bytes = BLOCK * layer.pixel_bytes
    inflate = zlib.decompressobj()
    for rows in row_strips(BLOCK, row_bytes):
        strip = chunky[rows]
        plain = inflate.decompress(body, len(strip) * row_bytes)
        if len(plain) < len(strip) * row_bytes:
            raise zlib.error("the block is cut off")
        _sum_up(plain, layer, strip)
        body = inflate.unconsumed_tail
    if inflate.decompress(body) or not inflate.eof:  # its checksum is compared at the end
        raise zlib.error("the block has another length")
    return chunky.transpose(2, 0, 1)


def _sum_up(plain: bytes, layer: Layer, strip: NDArray[Any]) -> None:
    """Write the pixels, (rows, columns, bands), of which the predictor made some bytes."""
    rows, bands = len(strip), len(layer.bands)
    match predictor(layer):
        case 2:
            differences = np.frombuffer(plain, layer.dtype).reshape(strip.shape)
            np.add.accumulate(differences, axis=1, dtype=layer.dtype, out=strip)
        case 3:
            of_bytes = np.frombuffer(plain, np.uint8).reshape(rows, -1, bands)
            planes = np.add.accumulate(of_bytes, axis=1, dtype=np.uint8)
            split = planes.reshape(rows, layer.dtype.itemsize, -1).transpose(0, 2, 1)
            big = layer.dtype.newbyteorder(">")
            strip[:] = np.ascontiguousarray(split).view(big).reshape(strip.shape)
        case _:
            strip[:] = np.frombuffer(plain, layer.dtype).reshape(strip.shape)


def _predicted(chunky: NDArray[Any], layer: Layer) -> bytes:
    if predictor(layer) == FLOATS:
        rows, columns, bands = chunky.shape
        big = chunky.astype(chunky.dtype.newbyteorder(">"))
        split = big.view(np.uint8).reshape(rows, columns * bands, -1).transpose(0, 2, 1)
        chunky = np.ascontiguousarray(split).reshape(rows, -1, bands)
    differences = chunky.copy()
    differences[:, 1:] -= chunky[:, :-1]
    return differences.tobytes()
