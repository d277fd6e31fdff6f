"""Uncompressed GeoTIFF and NITF tiles: GDAL writes one, the others differ in pixels and place.

GDAL takes a millisecond (GeoTIFF) to five (NITF) to write a 512 px tile, of which the pixels are
a fifth. All tiles of an image have one size, so their headers agree in all but the tile's place.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.imagery.encoding.gdal_tiles import gtiff, nitf
from tasks.imagery.encoding.nitf_geotags import NitfGeotags, igeolo, igeolo_at, subheader_end
from tasks.imagery.encoding.tiff_geotags import TiffGeotags
from tasks.imagery.image import Image
from tasks.imagery.reading.tile_pixels import TilePixels

_STRIP_OFFSETS = 273  # a tag of TIFF 6.0


class TiffWriter:
    """Encodes an image's tiles as uncompressed GeoTIFF, bands pixel by pixel."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._place = TiffGeotags(image)
        self._headers: dict[tuple[int, ...], tuple[bytes, dict[int, int]]] = {}

    def __call__(self, tile: TilePixels) -> bytes:
        """The file of a tile."""
        bands, height, width = tile.pixels.shape
        if (bands, height, width) not in self._headers:
            self._headers[bands, height, width] = self._header_like(tile)
        sample, fields = self._headers[bands, height, width]
        header = bytearray(sample)
        if not self._place.write(header, fields, tile.tile.window):
            return gtiff(self._image, self._place, "NONE", tile)
        pixels = np.empty((height, width, bands), tile.pixels.dtype.newbyteorder("<"))
        for band in range(bands):
            pixels[..., band] = tile.pixels[band]
        return b"".join((header, pixels.data))

    def _header_like(self, tile: TilePixels) -> tuple[bytes, dict[int, int]]:
        """All that GDAL writes before the pixels of such a tile, and its fields."""
        file = gtiff(self._image, self._place, "NONE", tile)
        fields = _fields(file)
        return file[: fields[_STRIP_OFFSETS]], fields


class NitfWriter:
    """Encodes an image's tiles as uncompressed NITF 2.1, band after band."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._place = NitfGeotags(image)
        self._headers: dict[tuple[object, ...], tuple[bytes, bytes] | None] = {}

    def __call__(self, tile: TilePixels) -> bytes:
        """The file of a tile."""
        window = tile.tile.window
        corners = self._place.corners(window)
        extensions = self._place.extensions(window, corners)
        kind = (tile.pixels.shape, corners is None)
        if kind not in self._headers:
            self._headers[kind] = self._header_like(
                tile, len(extensions), located=corners is not None
            )
        header = self._headers[kind]
        if header is None:
            return nitf(self._image, self._place, "NONE", tile)
        before, after = header
        where = b"" if corners is None else igeolo(corners)
        return b"".join((before, where, after, extensions, _big_endian(tile.pixels).data))

    def _header_like(
        self, tile: TilePixels, extensions: int, *, located: bool
    ) -> tuple[bytes, bytes] | None:
        """All that GDAL writes before and after IGEOLO, up to the tagged records of such a tile.

        None where it cuts a huge tile into blocks.
        """
        file = nitf(self._image, self._place, "NONE", tile)
        end = subheader_end(file)
        if file[end:] != _big_endian(tile.pixels).tobytes():
            return None
        start = igeolo_at(file)
        return file[:start], file[start + 60 * located : end - extensions]


def _big_endian(pixels: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(">"))


def _fields(tiff: bytes) -> dict[int, int]:
    """Where the values of each tag of a little-endian TIFF's first directory stand in the file.

    The one strip's offset is given by its value instead: that is where the pixels stand.
    """
    (directory,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, directory)
    entries = struct.iter_unpack("<HHII", tiff[directory + 2 : directory + 2 + 12 * count])
    return {tag: value for tag, _, _, value in entries}
