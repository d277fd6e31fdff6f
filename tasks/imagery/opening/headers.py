"""What the headers of NITF, JPEG 2000, HFA and PNG files claim, read before GDAL does.

A file that ends before its header says, or whose pixels are said to lie in other files, or that
holds several images where GDAL would show the first, is refused here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from tasks.errors import ImageError
from tasks.imagery.opening.tiff_page import Read

_FILE_LENGTH, _HEADER_LENGTH = slice(342, 354), slice(354, 360)  # NITF 2.1: FL, HL
_DOWNGRADE = slice(280, 286)  # NITF 2.0: FSDWNG; "999998" puts FSDEVT, 40 bytes, before the rest
_UNKNOWN = 999_999_999_999  # FL of a file whose writer did not know

_MOST_BOXES = 4_096
_HFA_NODE = struct.Struct("<6I64s32s")  # next, previous, parent, child, data, its size; name, type
_MOST_NODES = 65_536
_HFA_TABLE = 22  # bytes of a layer's table before its blocks
_HFA_BLOCK = np.dtype(
    [("file", "<u2"), ("offset", "<u4"), ("size", "<u4"), ("valid", "<u2"), ("packed", "<u2")]
)


def check_nitf(url: str, read: Read, size: int) -> None:
    """Refuse a NITF that is shorter than its header says (MIL-STD-2500C 5.11, FL and HL).

    Args:
        url: As the request names it.
        read: The file.
        size: Its bytes.

    Raises:
        ImageError: It is.
    """
    head = read(0, 400)
    shift = 40 if head[4:9] == b"02.00" and head[_DOWNGRADE] == b"999998" else 0
    lengths = [
        head[field.start + shift : field.stop + shift] for field in (_FILE_LENGTH, _HEADER_LENGTH)
    ]
    if not all(length.isdigit() for length in lengths):
        raise ImageError(f"{url} is damaged: its header tells no length; write it anew.")
    total, header = map(int, lengths)
    if max(header, 0 if total == _UNKNOWN else total) > size:
        raise ImageError(
            f"{url} is cut short: its header tells {total} bytes, the file has {size}; "
            "upload it again."
        )


def check_jp2(url: str, read: Read, size: int) -> None:
    """Refuse a JPEG 2000 file of several codestreams, or one that ends within its boxes.

    Args:
        url: As the request names it.
        read: The file: boxes (ISO 15444-1, annex I), or a bare codestream.
        size: Its bytes.

    Raises:
        ImageError: As said.
    """
    if read(0, 4) == b"\xff\x4f\xff\x51":
        return
    codestreams = [(start, end) for name, start, end in _boxes(read, size) if name == b"jp2c"]
    if not codestreams:
        raise ImageError(f"{url} holds no image: none of its boxes is a codestream.")
    if len(codestreams) > 1:
        listed = ", ".join(f"{end - start} bytes at {start}" for start, end in codestreams[:20])
        raise ImageError(
            f"{url} holds {len(codestreams)} images ({listed}), and which one is meant is not "
            "told: give each a file of its own."
        )
    if (end := codestreams[0][1]) > size:
        raise ImageError(
            f"{url} is cut short: its codestream ends at byte {end}, the file at {size}; "
            "upload it again."
        )


def check_hfa(url: str, read: Read, size: int) -> None:
    """Refuse an HFA file whose pixels lie in another file (a spill file, `.ige`), or that is cut.

    Its header names that file freely, so it may be any that the process can read. Where bytes are
    missing, GDAL shows a band less, or zeros.

    Args:
        url: As the request names it.
        read: The file.
        size: Its bytes.

    Raises:
        ImageError: As said.
    """
    header = struct.unpack("<I", read(16, 4).ljust(4, b"\0"))[0]
    root = struct.unpack("<I", read(header + 8, 4).ljust(4, b"\0"))[0]
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if not node or node in seen:
            continue
        seen.add(node)
        if len(seen) > _MOST_NODES:
            raise ImageError(f"{url} is damaged: its header has no end; write it anew.")
        body = read(node, _HFA_NODE.size).ljust(_HFA_NODE.size, b"\0")
        following, _, _, child, start, length, name, _ = _HFA_NODE.unpack(body)
        match name.partition(b"\0")[0].lower():
            case b"externalrasterdms":
                raise ImageError(
                    f"{url} keeps its pixels in another file (.ige), which is not followed: write "
                    "one file, with gdal_translate -of COG IN.img OUT.tif."
                )
            case b"rasterdms":
                end = _last_block(read(start, length))
            case _:
                end = 0
        if (end := max(end, start + length, node + _HFA_NODE.size)) > size:
            raise ImageError(
                f"{url} is cut short: its header tells of byte {end}, the file has {size}; "
                "upload it again."
            )
        waiting += [following, child]


def _last_block(table: bytes) -> int:
    """Where the last of the blocks ends that the table of an HFA layer (Edms_State) lists."""
    blocks = np.frombuffer(table[_HFA_TABLE:][: len(table[_HFA_TABLE:]) // 14 * 14], _HFA_BLOCK)
    stored = blocks[blocks["valid"] != 0]
    ends = stored["offset"].astype(np.int64) + stored["size"]
    return int(ends.max(initial=0))


def is_interlaced(head: bytes) -> bool:
    """Whether a PNG with these first bytes is interlaced, so that one row needs all (ISO 15948)."""
    return head[12:16] == b"IHDR" and head[28:29] not in (b"", b"\0")


def _boxes(read: Read, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, first and last byte of the boxes at the top of a JP2 file."""
    start = 0
    for _ in range(_MOST_BOXES):
        head = read(start, 16)
        if len(head) < 8:
            return
        length, name = struct.unpack(">I4s", head[:8])
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack(">Q", head[8:])
        end = start + length if length else size  # 0: to the end of the file
        yield name, start, end
        if end < start + 8 or end >= size:
            return
        start = end
