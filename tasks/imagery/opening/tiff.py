"""The directories of a TIFF file (TIFF 6.0, BigTIFF), read before GDAL does.

GDAL follows what a file says; here its pages are listed, and what they claim is weighed, without
a pixel decoded.
"""

from __future__ import annotations

import struct

from tasks.errors import ImageError
from tasks.imagery.opening.tiff_page import Entries, Page, Read

_MOST_PAGES = 512
_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # those that hold whole numbers
_SUBFILE, _OLD_SUBFILE = 254, 255
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _BANDS, _STRIP_ROWS, _STRIP_SIZES, _PLANAR = 273, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_SIZES, _FORMAT = 322, 323, 324, 325, 339


def pages(url: str, read: Read) -> list[Page]:
    """The pages of a TIFF, masks and overviews included, in the order of the file.

    Args:
        url: As the request names it.
        read: The file.

    Raises:
        ImageError: Its directories run in a circle, or there are too many.
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
            raise ImageError(f"{url} is damaged: its directories run in a circle; write it anew.")
        if len(seen) == _MOST_PAGES:
            raise ImageError(
                f"{url} has more than {_MOST_PAGES} pages: give each image a file of its own."
            )
        seen.add(offset)
        fields, offset = _directory(url, read, offset, order, big=big)
        found.append(_page(len(seen), fields, read, order))
    return found


def _directory(
    url: str, read: Read, offset: int, order: str, *, big: bool
) -> tuple[dict[int, Entries], int]:
    """Where the values of each tag stand, and the offset of the next directory or 0."""
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
            f"{url} is damaged or cut short: its directory at byte {offset} does not fit into it; "
            "check that it opens elsewhere, and upload it again."
        )
    fields = {}
    for number in range(count):
        tag, type_, length, value = struct.unpack_from(entry_form, body, number * step)
        letter = _TYPES.get(type_)
        if letter:
            inline = length * struct.calcsize(order + letter) <= len(value)
            place = offset + head + number * step + step - len(value)
            fields[tag] = Entries(
                letter, length, place if inline else struct.unpack(next_form, value)[0]
            )
    following = body[count * step :]
    whole = len(following) == struct.calcsize(next_form)
    return fields, struct.unpack(next_form, following)[0] if whole else 0


def _page(number: int, fields: dict[int, Entries], read: Read, order: str) -> Page:
    def first(tag: int, default: int) -> int:
        if tag not in fields or not fields[tag].count:
            return default
        form = order + fields[tag].letter
        body = read(fields[tag].start, struct.calcsize(form))
        return int(struct.unpack(form, body)[0]) if len(body) == struct.calcsize(form) else default

    width, height = first(_WIDTH, 0), first(_HEIGHT, 0)
    strip = (min(first(_STRIP_ROWS, height), height), width)
    tiled = _TILE_WIDTH in fields
    subfile = first(_SUBFILE, 0)
    none = Entries("H", 0, 0)
    return Page(
        number=number,
        width=width,
        height=height,
        bands=first(_BANDS, 1),
        bits=first(_BITS, 1),
        kind=first(_FORMAT, 1),
        block_shape=(first(_TILE_HEIGHT, 0), first(_TILE_WIDTH, 0)) if tiled else strip,
        tiled=tiled,
        compression=first(_COMPRESSION, 1),
        photometric=first(_PHOTOMETRIC, 1),
        planar=first(_PLANAR, 1) == 2,
        reduced=bool(subfile & 1) or first(_OLD_SUBFILE, 0) == 2,
        mask=bool(subfile & 4),
        offsets=fields.get(_TILES, fields.get(_STRIPS, none)),
        sizes=fields.get(_TILE_SIZES, fields.get(_STRIP_SIZES, none)),
        order=order,
    )
