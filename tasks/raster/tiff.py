"""The directories of a TIFF file: read from a template, and written before their blocks.

BigTIFF (8-byte offsets, https://libtiff.gitlab.io/libtiff/specification/bigtiff.html), laid out as
a Cloud Optimized GeoTIFF: first all directories, then the blocks of the smallest overview, and
those of the raster itself last (OGC 21-026).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, OFFSETS, LENGTHS = 256, 257, 324, 325
_SUBFILE = 254
_LONG, _LONG8 = 4, 16
_LEADER, _TRAILER = 4, 4  # bytes before and after each block
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
          16: 8, 17: 8, 18: 8}  # fmt: skip
_OF_OVERVIEWS = {258, 259, 262, 277, 284, 317, 320, 322, 323, 338, 339, 42113}
"""Tags that overviews share with the raster: how pixels are stored, and what they are."""

_LAYOUT = (
    b"LAYOUT=IFDS_BEFORE_DATA\nBLOCK_ORDER=ROW_MAJOR\nBLOCK_LEADER=SIZE_AS_UINT4\n"
    b"BLOCK_TRAILER=LAST_4_BYTES_REPEATED\nKNOWN_INCOMPATIBLE_EDITION=NO\n "
)
_GHOST = b"GDAL_STRUCTURAL_METADATA_SIZE=%06d bytes\n" % len(_LAYOUT) + _LAYOUT


@dataclass(frozen=True)
class Tag:
    """An entry of a directory.

    Attributes:
        kind: Type of its values, as TIFF numbers it.
        count: Number of values.
        body: Their bytes, little-endian.
    """

    kind: int
    count: int
    body: bytes


Tags = Mapping[int, Tag]


def read_tags(template: bytes) -> Tags:
    """The first directory of a little-endian BigTIFF.

    Raises:
        ValueError: The bytes are not those of such a file.
    """
    if template[:8] != b"II+\x00\x08\x00\x00\x00":
        raise ValueError("The template is not a little-endian BigTIFF.")
    (at,) = struct.unpack_from("<Q", template, 8)
    (entries,) = struct.unpack_from("<Q", template, at)
    tags = {}
    for entry in range(entries):
        start = at + 8 + 20 * entry
        number, kind, count = struct.unpack_from("<HHQ", template, start)
        size = _SIZES[kind] * count
        begin = start + 12
        if size > 8:
            (begin,) = struct.unpack_from("<Q", template, begin)
        tags[number] = Tag(kind, count, template[begin : begin + size])
    return tags


def header(
    tags: Tags, sizes: Sequence[tuple[int, int]], lengths: Sequence[NDArray[np.integer]]
) -> bytes:
    """All that a COG has before its blocks.

    Args:
        tags: The directory of the raster; its offsets and lengths are replaced.
        sizes: Width and height of the raster, and of each overview.
        lengths: Bytes of the blocks of the raster and of each overview, row by row.
    """
    levels = [_level_tags(tags, level, size) for level, size in enumerate(sizes)]
    start = 16 + len(_GHOST)
    start += -start % 8
    places = []  # of the directories
    at = start
    for level, own in enumerate(levels):
        places.append(at)
        at += _directory_bytes({**own, **_block_tags(lengths[level], lengths[level])})
    data = at
    offsets = {}
    for level in reversed(range(len(levels))):
        framed = lengths[level].astype(np.int64) + _LEADER + _TRAILER
        ends = data + np.cumsum(framed)
        offsets[level], data = ends - framed + _LEADER, int(ends[-1])
    body = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, start) + _GHOST)
    body += bytes(start - len(body))
    for level, own in enumerate(levels):
        following = places[level + 1] if level + 1 < len(levels) else 0
        full = {**own, **_block_tags(offsets[level], lengths[level])}
        body += _directory(full, places[level], following)
    return bytes(body)


def framed_block(body: bytes) -> bytes:
    """A block as it is in the file: its length before it, and its last bytes once more after it.

    GDAL reads a block whose length stands before it with one request.
    """
    return struct.pack("<I", len(body)) + body + body[-_TRAILER:]


def _level_tags(tags: Tags, level: int, size: tuple[int, int]) -> dict[int, Tag]:
    own = {number: tag for number, tag in tags.items() if number not in {OFFSETS, LENGTHS}}
    if level > 0:
        own = {number: tag for number, tag in own.items() if number in _OF_OVERVIEWS}
        own[_SUBFILE] = Tag(_LONG, 1, struct.pack("<I", 1))  # a smaller version of the raster
    own[WIDTH] = Tag(_LONG, 1, struct.pack("<I", size[0]))
    own[HEIGHT] = Tag(_LONG, 1, struct.pack("<I", size[1]))
    return own


def _block_tags(offsets: NDArray[np.integer], lengths: NDArray[np.integer]) -> dict[int, Tag]:
    return {
        OFFSETS: Tag(_LONG8, len(offsets), offsets.astype("<u8").tobytes()),
        LENGTHS: Tag(_LONG, len(lengths), lengths.astype("<u4").tobytes()),
    }


def _directory_bytes(tags: Tags) -> int:
    outside = sum(_padded(tag) for tag in tags.values() if len(tag.body) > 8)
    return _padded_size(8 + 20 * len(tags) + 8) + outside


def _padded(tag: Tag) -> int:
    return _padded_size(len(tag.body))


def _padded_size(size: int) -> int:
    return size + -size % 8


def _directory(tags: Tags, at: int, following: int) -> bytes:
    """The bytes of a directory that begins at an offset, with the values that it refers to."""
    fixed = _padded_size(8 + 20 * len(tags) + 8)
    entries, values = bytearray(struct.pack("<Q", len(tags))), bytearray()
    for number, tag in sorted(tags.items()):
        entries += struct.pack("<HHQ", number, tag.kind, tag.count)
        if len(tag.body) <= 8:
            entries += tag.body.ljust(8, b"\0")
        else:
            entries += struct.pack("<Q", at + fixed + len(values))
            values += tag.body.ljust(_padded(tag), b"\0")
    entries += struct.pack("<Q", following)
    return bytes(entries.ljust(fixed, b"\0") + values)
