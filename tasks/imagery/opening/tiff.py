"""Reads the directories of a TIFF file (TIFF 6.0, BigTIFF) before GDAL does.

GDAL follows whatever offsets a file contains. Here the pages and the sizes that they claim are
listed without decoding a pixel, so that a harmful file can be refused first.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.errors import ImageError
from tasks.imagery.opening.stored_file import ReadBytes

_MAX_PAGES = 512
_MAX_OFFSET = 1 << 62  # bytes: larger than any file, and sums of two still fit in int64
_INTEGER_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # by `struct`'s letters
_SUBFILE, _OLD_SUBFILE = 254, 255
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _BANDS, _STRIP_ROWS, _STRIP_SIZES, _PLANAR = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_SIZES, _FORMAT = 322, 323, 324, 325, 339


@dataclass(frozen=True, slots=True)
class TagValues:
    """The type, number and position in the file of a tag's values.

    Attributes:
        letter: Type of a value, as a letter of `struct`.
        count: Number of values.
        start: Offset of the first value in bytes.
    """

    letter: str
    count: int
    start: int


@dataclass(frozen=True, slots=True)
class Page:
    """One directory of a TIFF.

    Attributes:
        number: Number in the order of the file, from 1, as GDAL counts.
        width: Pixels in x.
        height: Pixels in y.
        bands: Samples per pixel.
        bits: Bits per sample.
        sample_format: 1 unsigned, 2 signed, 3 float, 5 complex integer, 6 complex float.
        block_shape: Rows and columns of a strip or tile.
        tiled: Whether the blocks are tiles. Tiles at the edges have full size; strips do not.
        compression: TIFF's number of the codec.
        photometric: TIFF's number of the colour space.
        planar: Whether each band has its own blocks.
        reduced: Whether the page is declared a reduced-resolution version of another.
        mask: Whether the page is declared a mask of another.
        offsets: Offsets of its blocks.
        sizes: Stored sizes of its blocks.
        byte_order: "<" or ">", as in `struct`.
    """

    number: int
    width: int
    height: int
    bands: int
    bits: int
    sample_format: int
    block_shape: tuple[int, int]
    tiled: bool
    compression: int
    photometric: int
    planar: bool
    reduced: bool
    mask: bool
    offsets: TagValues
    sizes: TagValues
    byte_order: str

    @property
    def block_bytes(self) -> int:
        """Bytes of a full block before compression."""
        rows, columns = self.block_shape
        samples = 1 if self.planar else self.bands
        return rows * (-(-columns * samples * self.bits // 8))

    @property
    def blocks(self) -> int:
        """Number of blocks; with `planar`, of all bands together."""
        rows, columns = self.block_shape
        grid = -(-self.height // max(rows, 1)) * -(-self.width // max(columns, 1))
        return grid * (self.bands if self.planar else 1)

    def index(self, read: ReadBytes, first: int, count: int) -> NDArray[np.int64]:
        """Read a part of the block index.

        Args:
            read: Reads the file.
            first: Number of the first block, from 0.
            count: Number of blocks.

        Returns:
            int64 (3, n): offset, stored size and decoded size of each block in bytes. The stored
            size of a block that a sparse file leaves out is 0. n < count if the index is cut
            short.
        """
        starts, sizes = (
            self._integers(read, values, first, count) for values in (self.offsets, self.sizes)
        )
        found = min(len(starts), len(sizes))
        number = np.arange(first, first + found)
        decoded = np.full(found, min(self.block_bytes, _MAX_OFFSET))
        if not self.tiled:
            rows = self.block_shape[0]
            last = number % -(-self.height // rows) == (self.height - 1) // rows
            decoded[last] -= -self.height % rows * (self.block_bytes // rows)
        return np.stack([starts[:found], sizes[:found], decoded])

    def _integers(
        self, read: ReadBytes, values: TagValues, first: int, count: int
    ) -> NDArray[np.int64]:
        width = struct.calcsize(self.byte_order + values.letter)
        count = max(0, min(count, values.count - first))
        body = read(values.start + first * width, count * width)
        complete = body[: len(body) // width * width]
        dtype = np.dtype(f"{self.byte_order}u{width}")
        integers = np.frombuffer(complete, dtype).astype(np.uint64)
        return np.asarray(np.minimum(integers, np.uint64(_MAX_OFFSET)), np.int64)


def read_pages(url: str, read: ReadBytes) -> list[Page]:
    """List the pages of a TIFF, masks and overviews included, in the order of the file.

    Args:
        url: URL of the image, from the request.
        read: Reads the file.

    Raises:
        ImageError: The file is cut short, its directories form a loop, or it has too many pages.
    """
    head = read(0, 16)
    order = "<" if head[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", head, 2)[0] == 43
    form = order + ("Q" if big else "I")
    start = 8 if big else 4
    if len(head) < start + struct.calcsize(form):
        raise ImageError(f"{url} is cut short after {len(head)} bytes: upload it again.")
    (offset,) = struct.unpack_from(form, head, start)
    found: list[Page] = []
    seen: set[int] = set()
    while offset:
        if offset in seen:
            raise ImageError(f"{url} is damaged: its directories form a loop; create it again.")
        if len(seen) == _MAX_PAGES:
            raise ImageError(
                f"{url} has more than {_MAX_PAGES} pages: write each image to its own file."
            )
        seen.add(offset)
        tags, offset = _read_directory(url, read, offset, order, big=big)
        found.append(_page(len(seen), tags, read, order))
    return found


def have_masks(pages: list[Page]) -> bool:
    """Whether the overviews of an image have masks if it has one.

    If a mask was added after the overviews, GDAL takes all pixels of these for valid.
    """
    masks = {(page.width, page.height) for page in pages if page.mask}
    overviews = {(page.width, page.height) for page in pages if page.reduced and not page.mask}
    return not masks or overviews <= masks


def _read_directory(
    url: str, read: ReadBytes, offset: int, order: str, *, big: bool
) -> tuple[dict[int, TagValues], int]:
    """The integer tags of a directory, and the offset of the next directory or 0."""
    count_form, entry_form, next_form = (
        (order + "Q", order + "HHQ8s", order + "Q")
        if big
        else (order + "H", order + "HHI4s", order + "I")
    )
    head, step = struct.calcsize(count_form), struct.calcsize(entry_form)
    beginning = read(offset, head)
    count = struct.unpack(count_form, beginning)[0] if len(beginning) == head else 1 << 16
    body = read(offset + head, min(count, 1 << 16) * step + struct.calcsize(next_form))
    if len(body) < count * step:
        raise ImageError(
            f"{url} is damaged or cut short: its directory at byte {offset} ends beyond the file; "
            "check that it opens elsewhere, and upload it again."
        )
    tags = {}
    for number in range(count):
        tag, type_, length, value = struct.unpack_from(entry_form, body, number * step)
        letter = _INTEGER_TYPES.get(type_)
        if letter:
            inline = length * struct.calcsize(order + letter) <= len(value)
            inline_start = offset + head + number * step + step - len(value)
            start = inline_start if inline else struct.unpack(next_form, value)[0]
            tags[tag] = TagValues(letter, length, start)
    following = body[count * step :]
    complete = len(following) == struct.calcsize(next_form)
    return tags, struct.unpack(next_form, following)[0] if complete else 0


def _page(number: int, tags: dict[int, TagValues], read: ReadBytes, order: str) -> Page:
    def first(tag: int, default: int) -> int:
        if tag not in tags or not tags[tag].count:
            return default
        form = order + tags[tag].letter
        body = read(tags[tag].start, struct.calcsize(form))
        return int(struct.unpack(form, body)[0]) if len(body) == struct.calcsize(form) else default

    width, height = first(_WIDTH, 0), first(_HEIGHT, 0)
    strip = (min(first(_STRIP_ROWS, height), height), width)
    tiled = _TILE_WIDTH in tags
    subfile = first(_SUBFILE, 0)
    absent = TagValues("H", 0, 0)
    return Page(
        number=number,
        width=width,
        height=height,
        bands=first(_BANDS, 1),
        bits=first(_BITS, 1),
        sample_format=first(_FORMAT, 1),
        block_shape=(first(_TILE_HEIGHT, 0), first(_TILE_WIDTH, 0)) if tiled else strip,
        tiled=tiled,
        compression=first(_COMPRESSION, 1),
        photometric=first(_PHOTOMETRIC, 1),
        planar=first(_PLANAR, 1) == 2,
        reduced=bool(subfile & 1) or first(_OLD_SUBFILE, 0) == 2,
        mask=bool(subfile & 4),
        offsets=tags.get(_TILES, tags.get(_STRIPS, absent)),
        sizes=tags.get(_TILE_SIZES, tags.get(_STRIP_SIZES, absent)),
        byte_order=order,
    )
