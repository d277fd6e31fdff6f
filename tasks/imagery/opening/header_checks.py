"""Checks the headers of NITF, JPEG 2000, HFA and PNG files before GDAL reads them.

A file is refused if it is shorter than its header says, if its pixels are in other files, or if it
holds several images of which GDAL would show only the first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from tasks.errors import ImageError
from tasks.imagery.opening.stored_file import ReadBytes

_FILE_LENGTH, _HEADER_LENGTH = slice(342, 354), slice(354, 360)  # NITF 2.1: FL, HL
_DOWNGRADE = slice(280, 286)  # NITF 2.0: FSDWNG; "999998" adds FSDEVT, 40 bytes, after it
_UNKNOWN_LENGTH = 999_999_999_999  # FL of a file whose writer did not know it

_MAX_BOXES = 4_096
_HFA_NODE = struct.Struct("<6I64s32s")  # next, previous, parent, child, data, its size; name, type
_MAX_NODES = 65_536
_HFA_TABLE = 22  # bytes of a layer's table before its blocks
_HFA_BLOCK = np.dtype(
    [("file", "<u2"), ("offset", "<u4"), ("size", "<u4"), ("valid", "<u2"), ("packed", "<u2")]
)


def check_nitf(url: str, read: ReadBytes, size: int) -> None:
    """Refuse a NITF that is shorter than its header says (MIL-STD-2500C 5.11, FL and HL).

    Args:
        url: URL of the image, from the request.
        read: Reads the file.
        size: Size of the file in bytes.

    Raises:
        ImageError: The file is shorter, or its header has no valid length.
    """
    head = read(0, 400)
    shift = 40 if head[4:9] == b"02.00" and head[_DOWNGRADE] == b"999998" else 0
    lengths = [
        head[field.start + shift : field.stop + shift] for field in (_FILE_LENGTH, _HEADER_LENGTH)
    ]
    if not all(length.isdigit() for length in lengths):
        raise ImageError(f"{url} is damaged: its header has no valid length; create it again.")
    total, header = map(int, lengths)
    if max(header, 0 if total == _UNKNOWN_LENGTH else total) > size:
        raise ImageError(
            f"{url} is cut short: its header says {total} bytes, the file has {size}; "
            "upload it again."
        )


def check_jp2(url: str, read: ReadBytes, size: int) -> None:
    """Refuse a JPEG 2000 file with several codestreams, or one that is cut short.

    Args:
        url: URL of the image, from the request.
        read: Reads the file: boxes (ISO 15444-1, annex I), or a bare codestream.
        size: Size of the file in bytes.

    Raises:
        ImageError: The file has no codestream, several, or one that ends beyond the file.
    """
    if read(0, 4) == b"\xff\x4f\xff\x51":
        return
    codestreams = [(start, end) for name, start, end in _boxes(read, size) if name == b"jp2c"]
    if not codestreams:
        raise ImageError(f"{url} holds no image: none of its boxes is a codestream.")
    if len(codestreams) > 1:
        listed = ", ".join(f"{end - start} bytes at {start}" for start, end in codestreams[:20])
        raise ImageError(
            f"{url} holds {len(codestreams)} images ({listed}), and nothing says which one is "
            "meant: write each to its own file."
        )
    if (end := codestreams[0][1]) > size:
        raise ImageError(
            f"{url} is cut short: its codestream ends at byte {end}, the file at {size}; "
            "upload it again."
        )


def check_hfa(url: str, read: ReadBytes, size: int) -> None:
    """Refuse an HFA file that is cut short, or whose pixels are in another file (`.ige`).

    The header may name any file for the pixels, so also a file that the process can read but the
    user must not. If bytes are missing, GDAL shows fewer bands, or zeros.

    Args:
        url: URL of the image, from the request.
        read: Reads the file.
        size: Size of the file in bytes.

    Raises:
        ImageError: The file is cut short or damaged, or its pixels are in another file.
    """
    header = struct.unpack("<I", read(16, 4).ljust(4, b"\0"))[0]
    root = struct.unpack("<I", read(header + 8, 4).ljust(4, b"\0"))[0]
    pending, seen = [root], set()
    while pending:
        node = pending.pop()
        if not node or node in seen:
            continue
        seen.add(node)
        if len(seen) > _MAX_NODES:
            raise ImageError(
                f"{url} is damaged: its header has more than {_MAX_NODES} nodes; create it again."
            )
        body = read(node, _HFA_NODE.size).ljust(_HFA_NODE.size, b"\0")
        following, _, _, child, start, length, name, _ = _HFA_NODE.unpack(body)
        match name.partition(b"\0")[0].lower():
            case b"externalrasterdms":
                raise ImageError(
                    f"{url} keeps its pixels in another file (.ige), which Swath does not follow: "
                    "write one file, with gdal_translate -of COG IN.img OUT.tif."
                )
            case b"rasterdms":
                end = _end_of_blocks(read(start, length))
            case _:
                end = 0
        if (end := max(end, start + length, node + _HFA_NODE.size)) > size:
            raise ImageError(
                f"{url} is cut short: its header refers to byte {end}, the file has {size}; "
                "upload it again."
            )
        pending += [following, child]


def _end_of_blocks(table: bytes) -> int:
    """Offset of the end of the last block in the table of an HFA layer (Edms_State)."""
    blocks = np.frombuffer(table[_HFA_TABLE:][: len(table[_HFA_TABLE:]) // 14 * 14], _HFA_BLOCK)
    stored = blocks[blocks["valid"] != 0]
    ends = stored["offset"].astype(np.int64) + stored["size"]
    return int(ends.max(initial=0))


def is_interlaced(head: bytes) -> bool:
    """Whether a PNG with these first bytes is interlaced (ISO 15948): no row decodes alone then."""
    return head[12:16] == b"IHDR" and head[28:29] not in (b"", b"\0")


def _boxes(read: ReadBytes, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of each top-level box of a JP2 file."""
    start = 0
    for _ in range(_MAX_BOXES):
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
