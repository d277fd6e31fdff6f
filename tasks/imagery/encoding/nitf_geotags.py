"""The georeference of NITF tiles: corner coordinates and tagged records (MIL-STD-2500C)."""

from __future__ import annotations

import numpy as np
from rasterio.windows import Window

from tasks.imagery.encoding.rpc00b import rpc00b
from tasks.imagery.georeference.ichipb import Chip
from tasks.imagery.georeference.rpc import RpcGeoreference
from tasks.imagery.georeference.transformers import Points
from tasks.imagery.image import Image

_HEADER_LENGTH = slice(354, 360)  # HL, in bytes of the file
_FILE_LENGTH = slice(342, 354)  # FL
_SUBHEADER_LENGTH = slice(363, 369)  # LISH001
_IGEOLO = 372  # offset in the image subheader
_MAX_EXTENSIONS = 99_999 - 3  # bytes, by the digits of IXSHDL, without IXSOFL


class NitfGeotags:
    """Georeferences the tiles of an image for NITF.

    A tile has its corner coordinates, to one second of arc (IGEOLO) and to 10 cm (BLOCKA); its
    position in the full image (ICHIPB); and the records of the image itself, most importantly
    RPC00B. These records are for pixels of the full image: the standard defines how a reader
    converts them with ICHIPB. GDAL reports both, and does not convert them.
    """

    def __init__(self, image: Image) -> None:
        self._georeference = image.georeference
        source = image.nitf
        self._chip = (source.chip if source else None) or Chip.whole(image.size)
        self._records = _records(image)

    def corners(self, window: Window) -> Points | None:
        """Longitude, latitude of the centres of a tile's corner pixels, clockwise from the first.

        Args:
            window: The tile's window in the full image.

        Returns:
            (4, 2) in degrees; None if the image has no georeference, or if a corner has no
            position.
        """
        if self._georeference is None:
            return None
        left, top = window.col_off + 0.5, window.row_off + 0.5
        right, bottom = left + window.width - 1, top + window.height - 1
        pixels = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        lonlat = self._georeference.to_world(pixels)
        return lonlat if np.isfinite(lonlat).all() else None

    def extensions(self, window: Window, corners: Points | None) -> bytes:
        """The tagged records of a tile; they have the same length for all tiles with corners."""
        records = _record("ICHIPB", self._chip.window(window).record().encode())
        if corners is not None:
            records += _record("BLOCKA", _blocka(window.height, corners.tolist()).encode())
        return records + self._records


def igeolo(corners: Points) -> bytes:
    """The 60 bytes of IGEOLO (with ICORDS G) for the corners (4, 2) of a tile."""
    return "".join(
        _dms(lat, 2, "NS") + _dms(lon, 3, "EW") for lon, lat in corners.tolist()
    ).encode()


def igeolo_offset(file: bytes) -> int:
    """Offset in bytes of IGEOLO in a file whose image has corner coordinates."""
    return int(file[_HEADER_LENGTH]) + _IGEOLO


def subheader_end(file: bytes) -> int:
    """Offset in bytes of the end of a file's only image subheader and of its tagged records."""
    return int(file[_HEADER_LENGTH]) + int(file[_SUBHEADER_LENGTH])


def add_extensions(file: bytes, extensions: bytes) -> bytes:
    """Append tagged records to those of a file with one image."""
    start, end = _extensions_offset(file), subheader_end(file)
    own = file[start + 8 : end]  # after IXSHDL and IXSOFL; without records there is no IXSOFL
    field = b"%05d000" % (3 + len(own) + len(extensions))
    more = len(field) + len(own) + len(extensions) - (end - start)
    header = bytearray(file[:start])
    header[_FILE_LENGTH] = b"%012d" % (len(file) + more)
    header[_SUBHEADER_LENGTH] = b"%06d" % (int(file[_SUBHEADER_LENGTH]) + more)
    return b"".join((header, field, own, extensions, file[end:]))


def _extensions_offset(file: bytes) -> int:
    """Offset of IXSHDL in the image subheader, from the lengths of all fields before it."""
    at = int(file[_HEADER_LENGTH]) + _IGEOLO
    at += 60 if file[at - 1 : at] != b" " else 0  # ICORDS
    at += 1 + 80 * int(file[at : at + 1])  # NICOM and its comments
    at += 2 if file[at : at + 2] in (b"NC", b"NM") else 6  # IC and COMRAT
    bands = int(file[at : at + 1])
    at += 1
    if not bands:
        bands = int(file[at : at + 5])  # XBANDS
        at += 5
    for _ in range(bands):
        tables = int(file[at + 12 : at + 13])  # NLUTS
        at += 13
        at += 5 + tables * int(file[at : at + 5]) if tables else 0
    at += 40  # ISYNC to IMAG
    return at + 5 + int(file[at : at + 5])  # UDIDL


def _records(image: Image) -> bytes:
    """The records of the image, each with its name and length, without those that do not fit."""
    own = list(image.nitf.records) if image.nitf else []
    if not image.nitf and isinstance(image.georeference, RpcGeoreference):
        own.append(("RPC00B", rpc00b(image.georeference.rpcs).encode()))
    own.sort(key=lambda record: not record[0].startswith(("RPC00", "RSM")))
    room = _MAX_EXTENSIONS - 1000  # for the records of the tile
    records = b""
    for name, content in own:
        record = _record(name, content)
        records += record if len(records) + len(record) <= room else b""
    return records


def _record(name: str, content: bytes) -> bytes:
    """A tagged record extension: CETAG, CEL and the content."""
    return b"%-6s%05d%s" % (name.encode(), len(content), content)


def _blocka(rows: int, corners: list[list[float]]) -> str:
    """The content of BLOCKA (STDI-0002, Volume 1): corners to a millionth of a degree."""
    clockwise = [f"{lat:+010.6f}{lon:+011.6f}" for lon, lat in corners]
    # in BLOCKA, the first column of the first row is the last corner
    coordinates = "".join(clockwise[1:] + clockwise[:1])
    return f"0100000{rows:05d}{'':22}{coordinates}010.0"


def _dms(degrees: float, digits: int, signs: str) -> str:
    """Degrees, minutes and seconds, with N or S, E or W."""
    minutes, seconds = divmod(round(abs(degrees) * 3600), 60)
    whole, minutes = divmod(minutes, 60)
    return f"{whole:0{digits}d}{minutes:02d}{seconds:02d}{signs[int(degrees < 0)]}"
