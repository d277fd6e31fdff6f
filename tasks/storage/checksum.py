"""Bytes that end with their checksum, for objects whose damage nothing else would show."""

from __future__ import annotations

import zlib

_BYTES = 4  # of a CRC-32


def with_checksum(body: bytes | memoryview) -> bytes:
    """The bytes with their checksum behind them."""
    return b"".join([body, zlib.crc32(body).to_bytes(_BYTES)])


def without_checksum(body: bytes) -> memoryview:
    """The bytes before the checksum.

    Raises:
        ValueError: They are not those that it was made of.
    """
    before = memoryview(body)[:-_BYTES]
    if zlib.crc32(before).to_bytes(_BYTES) != body[-_BYTES:]:
        raise ValueError("it is cut off or damaged")
    return before
