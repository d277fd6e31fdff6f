"""Encodes PNG (ISO/IEC 15948) fast: with a single filter, and deflate by ISA-L."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # bands: grey, grey and alpha, RGB, RGB and alpha
_UP = 2  # the filter that stores the difference to the row above
_LEVEL = 2  # of ISA-L: as small as level 1 of zlib, in a fifth of the time


def png(pixels: NDArray[Any]) -> bytes:
    """Encode 1 to 4 bands without loss.

    libpng tries five filters on each row: that takes 50 % longer, and files are not smaller.

    Args:
        pixels: (bands, rows, columns) of uint8 or uint16.
    """
    bands, height, width = pixels.shape
    samples = np.empty((height, width, bands), pixels.dtype.newbyteorder(">"))
    for band in range(bands):
        samples[..., band] = pixels[band]
    rows = samples.view(np.uint8).reshape(height, -1)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    depth = 8 * pixels.dtype.itemsize
    header = struct.pack(">IIBBBBB", width, height, depth, _COLOUR_TYPES[bands], 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            *_chunk(b"IHDR", header),
            *_chunk(b"IDAT", isal_zlib.compress(filtered.data, _LEVEL)),
            *_chunk(b"IEND", b""),
        )
    )


def _chunk(name: bytes, body: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    checksum = isal_zlib.crc32(body, isal_zlib.crc32(name))
    return struct.pack(">I", len(body)), name, body, struct.pack(">I", checksum)
