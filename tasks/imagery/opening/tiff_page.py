"""A page of a TIFF file (TIFF 6.0, BigTIFF): what its directory says of its blocks."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Read = Callable[[int, int], bytes]
"""Bytes of a file from an offset; fewer where the file ends."""

_ENDLESS = 1 << 62  # bytes: more than any file, and fit for sums


@dataclass(frozen=True, slots=True)
class Entries:
    """An array in the file: its type in `struct`'s letters, its length, where it begins."""

    letter: str
    count: int
    start: int


@dataclass(frozen=True, slots=True)
class Page:
    """One directory of a TIFF.

    Attributes:
        number: From 1, in the order of the file, as GDAL counts.
        width: Pixels in x.
        height: Pixels in y.
        bands: Samples of a pixel.
        bits: Bits of a sample.
        kind: Sample format: 1 unsigned, 2 signed, 3 float, 5 and 6 complex.
        block_shape: Rows and columns of a strip or tile.
        tiled: Whether blocks are tiles, which are whole also at the edges, as strips are not.
        compression: TIFF's number of the codec.
        photometric: TIFF's number of the colour space.
        planar: Whether each band has blocks of its own.
        reduced: Whether it says that it is a smaller version of another page.
        mask: Whether it says that it is the mask of another page.
        offsets: Where its blocks begin.
        sizes: How many bytes its blocks have.
        order: Byte order, in `struct`'s letters.
    """

    number: int
    width: int
    height: int
    bands: int
    bits: int
    kind: int
    block_shape: tuple[int, int]
    tiled: bool
    compression: int
    photometric: int
    planar: bool
    reduced: bool
    mask: bool
    offsets: Entries
    sizes: Entries
    order: str

    @property
    def block_bytes(self) -> int:
        """Bytes of a whole block as they are before compression."""
        rows, columns = self.block_shape
        samples = 1 if self.planar else self.bands
        return rows * (-(-columns * samples * self.bits // 8))

    @property
    def blocks(self) -> int:
        """How many blocks it has, bands that have their own included."""
        rows, columns = self.block_shape
        grid = -(-self.height // max(rows, 1)) * -(-self.width // max(columns, 1))
        return grid * (self.bands if self.planar else 1)

    def index(self, read: Read, first: int, count: int) -> NDArray[np.int64]:
        """Where some of its blocks begin, their bytes in the file, and once decoded: (3, n).

        Blocks that are not stored have no bytes in the file.
        """
        starts, sizes = (
            self._numbers(read, entries, first, count) for entries in (self.offsets, self.sizes)
        )
        found = min(len(starts), len(sizes))
        number = np.arange(first, first + found)
        decoded = np.full(found, min(self.block_bytes, _ENDLESS))
        if not self.tiled:
            rows = self.block_shape[0]
            last = number % -(-self.height // rows) == (self.height - 1) // rows
            decoded[last] -= -self.height % rows * (self.block_bytes // rows)
        return np.stack([starts[:found], sizes[:found], decoded])

    def _numbers(self, read: Read, entries: Entries, first: int, count: int) -> NDArray[np.int64]:
        width = struct.calcsize(self.order + entries.letter)
        count = max(0, min(count, entries.count - first))
        body = read(entries.start + first * width, count * width)
        whole = body[: len(body) // width * width]
        dtype = np.dtype(f"{self.order}u{width}")
        numbers = np.frombuffer(whole, dtype).astype(np.uint64)
        return np.asarray(np.minimum(numbers, np.uint64(_ENDLESS)), np.int64)
