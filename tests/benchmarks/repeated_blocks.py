"""TIFF images of any size in a small file: the blocks of a scene, each at many positions.

The index of blocks names the same few compressed blocks again and again, so 200,000 × 200,000
pixels take 60 MB. For a reader it is an image like any other: each block is fetched and decoded.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

BLOCK = 512  # pixels

CODECS: dict[str, dict[str, Any]] = {
    "deflate": {"compress": "deflate", "predictor": 2},
    "lzw": {"compress": "lzw", "predictor": 2},
    "zstd": {"compress": "zstd", "predictor": 2},
    "jpeg": {"compress": "jpeg", "jpeg_quality": 85, "photometric": "ycbcr"},
}

_WIDTH, _HEIGHT, _OFFSETS, _SIZES = 256, 257, 324, 325  # tags of TIFF 6.0
_LONG, _LONG8 = 4, 16  # types of BigTIFF
_ENTRY = 20  # bytes


def repeat_blocks(
    scene: Path, path: Path, size: int, codec: str, nodata: float | None = None
) -> None:
    """Write an image of `size` × `size` pixels that repeats a scene.

    Args:
        scene: An image whose sides are multiples of `BLOCK`.
        path: Where to write it.
        size: Pixels of each side.
        codec: A key of `CODECS`.
        nodata: Its nodata value, or None.
    """
    with rasterio.open(scene) as source:
        options = {"driver": "GTiff", "bigtiff": "yes", "interleave": "pixel", "nodata": nodata}
        blocks = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK}
        with rasterio.open(path, "w", **source.profile | options | blocks | CODECS[codec]) as sink:
            sink.write(source.read())
    file = bytearray(path.read_bytes())
    entries = _entries(file)
    width, height = (_value(file, entries[tag]) for tag in (_WIDTH, _HEIGHT))
    shape = height // BLOCK, width // BLOCK
    for tag in (_OFFSETS, _SIZES):
        once = _values(file, entries[tag]).reshape(shape)
        rows = columns = np.arange(-(-size // BLOCK))
        everywhere = once[np.ix_(rows % shape[0], columns % shape[1])]
        _write(file, entries[tag], _LONG8, everywhere.size, len(file))
        file += everywhere.tobytes()
    for tag in (_WIDTH, _HEIGHT):
        _write(file, entries[tag], _LONG, 1, size)
    path.write_bytes(file)


def _entries(file: bytearray) -> dict[int, int]:
    """Offset of each entry of the first directory of a little-endian BigTIFF, by its tag."""
    (directory,) = struct.unpack_from("<Q", file, 8)
    (count,) = struct.unpack_from("<Q", file, directory)
    starts = range(directory + 8, directory + 8 + count * _ENTRY, _ENTRY)
    return {struct.unpack_from("<H", file, start)[0]: start for start in starts}


def _value(file: bytearray, entry: int) -> int:
    """The single value of an entry, which is in the entry itself."""
    return int(struct.unpack_from("<Q", file, entry + 12)[0])


def _values(file: bytearray, entry: int) -> NDArray[np.uint64]:
    """The integers of an entry, which are elsewhere in the file."""
    form, count, start = struct.unpack_from("<HQQ", file, entry + 2)
    integers = np.frombuffer(file, {_LONG: "<u4", _LONG8: "<u8"}[form], count, start)
    return integers.astype("<u8")


def _write(file: bytearray, entry: int, form: int, count: int, value: int) -> None:
    struct.pack_into("<HQQ", file, entry + 2, form, count, value)
