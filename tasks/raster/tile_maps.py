"""What a model answered for the pixels of a tile, as it is kept: a map in few bytes.

A map has one band a class or value. Numbers of classes are whole numbers, values are float32 (NaN
without an answer), and probabilities are whole numbers of 65,535ths: sums of them, times weights
that are whole numbers too, do not depend on the order in which tiles are added.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.request.raster_output import RasterOutput

ONE = 65_535
"""A probability of 1 in a map."""

TileMap = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]
"""(bands, height, width), in the tile's pixels."""

_CODEC = pa.Codec("zstd", compression_level=1)


def map_dtype(output: RasterOutput) -> np.dtype[np.generic]:
    """The data type of the maps of a model."""
    return np.dtype(np.uint16) if output.has_probabilities else output.dtype


def probabilities(values: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Probabilities 0 to 1 as a map holds them."""
    whole: NDArray[np.uint16] = np.rint(values * np.float32(ONE)).astype(np.uint16)
    return whole


def encode_map(pixels: TileMap) -> bytes:
    """The bytes of a map, to be read by `decode_map`.

    The bytes of a number are stored apart, first those of all numbers' lowest bytes: neighbours
    differ little in the highest, so that these take almost no space.
    """
    planes = np.ascontiguousarray(pixels).view(np.uint8).reshape(-1, pixels.dtype.itemsize)
    return bytes(_CODEC.compress(np.ascontiguousarray(planes.T), asbytes=True))


def decode_map(body: bytes, output: RasterOutput, shape: tuple[int, int]) -> TileMap:
    """A map from its bytes.

    Args:
        body: The bytes.
        output: What the map holds.
        shape: Height and width of the tile.

    Raises:
        ValueError: The bytes are not those of such a map.
    """
    dtype, bands = map_dtype(output), band_count(output)
    size = bands * shape[0] * shape[1] * dtype.itemsize
    plain = np.frombuffer(_CODEC.decompress(body, size), np.uint8)
    numbers = np.ascontiguousarray(plain.reshape(dtype.itemsize, -1).T).view(dtype)
    decoded: TileMap = numbers.reshape(bands, *shape)
    return decoded


def band_count(output: RasterOutput) -> int:
    """The number of bands in a map."""
    if output.has_probabilities:
        return len(output.classes)
    return max(1, len(output.bands)) if output.is_values else 1
