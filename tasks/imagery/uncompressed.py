"""Uncompressed GeoTIFF and NITF tiles: GDAL writes one, the others differ in pixels and place.

GDAL takes a millisecond (GeoTIFF) to five (NITF) to write a 512 px tile, of which the pixels are
a fifth. All tiles of an image have one size, so their headers agree in all but the tile's place.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.imagery.gdal_tiles import gtiff, igeolo, nitf
from tasks.imagery.georeference import AffineGeoreference
from tasks.imagery.pixels import TilePixels
from tasks.imagery.source import Image
from tasks.tiling import Tile

_STRIP_OFFSETS, _TIEPOINT, _TRANSFORMATION = 273, 33922, 34264  # tags of TIFF 6.0, GeoTIFF 1.1
_NITF_HEADER_LENGTH = slice(354, 360)  # HL, MIL-STD-2500C, in bytes of the file
_IGEOLO = 372  # bytes of the image subheader before it


class TiffWriter:
    """Encodes an image's tiles as uncompressed GeoTIFF, bands pixel by pixel."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._sample = lru_cache(self._sample_of)

    def __call__(self, tile: TilePixels) -> bytes:
        """The file of a tile."""
        bands, height, width = tile.pixels.shape
        sample, fields = self._sample(tile.pixels.shape)
        file = bytearray(sample)
        pixels = np.frombuffer(
            file, tile.pixels.dtype.newbyteorder("<"), tile.pixels.size, fields[_STRIP_OFFSETS]
        ).reshape(height, width, bands)
        for band in range(bands):
            pixels[..., band] = tile.pixels[band]
        if isinstance(self._image.georeference, AffineGeoreference):
            self._place(file, fields, self._image.georeference.tile_transform(tile.tile.window))
        return bytes(file)

    def _sample_of(self, shape: tuple[int, int, int]) -> tuple[bytes, dict[int, int]]:
        """A tile of this shape by GDAL, and where its fields are."""
        file = gtiff(self._image, "NONE", _sample_tile(shape, self._image.dtype))
        return file, _fields(file)

    @staticmethod
    def _place(file: bytearray, fields: dict[int, int], transform: Any) -> None:  # noqa: ANN401
        if _TRANSFORMATION in fields:
            a, b, c, d, e, f = transform[:6]
            matrix = (a, b, 0, c, d, e, 0, f, 0, 0, 0, 0, 0, 0, 0, 1)
            struct.pack_into("<16d", file, fields[_TRANSFORMATION], *matrix)
        else:
            tiepoint = (0, 0, 0, transform.c, transform.f, 0)
            struct.pack_into("<6d", file, fields[_TIEPOINT], *tiepoint)


class NitfWriter:
    """Encodes an image's tiles as uncompressed NITF 2.1, band after band."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._header = lru_cache(self._header_of)

    def __call__(self, tile: TilePixels) -> bytes:
        """The file of a tile."""
        header = self._header(tile.pixels.shape)
        if header is None:
            return nitf(self._image, "NONE", tile)
        if self._image.georeference:
            start = int(header[_NITF_HEADER_LENGTH]) + _IGEOLO
            corners = igeolo(self._image, tile.tile.window).encode()
            header = header[:start] + corners + header[start + len(corners) :]
        return header + _big_endian(tile.pixels)

    def _header_of(self, shape: tuple[int, int, int]) -> bytes | None:
        """All that GDAL writes before the pixels; None where it cuts a huge tile into blocks."""
        sample = _sample_tile(shape, self._image.dtype)
        file = nitf(self._image, "NONE", sample)
        body = _big_endian(sample.pixels)
        return file.removesuffix(body) if file.endswith(body) else None


def _sample_tile(shape: tuple[int, int, int], dtype: str) -> TilePixels:
    """A tile of this shape whose pixels cannot be mistaken for a header."""
    bands, height, width = shape
    pixels = (np.arange(bands * height * width) % 127).astype(dtype).reshape(shape)
    return TilePixels(Tile(0, Window(0, 0, width, height)), pixels, None)


def _big_endian(pixels: NDArray[Any]) -> bytes:
    return pixels.astype(pixels.dtype.newbyteorder(">"), copy=False).tobytes()


def _fields(tiff: bytes) -> dict[int, int]:
    """Where the values of each tag of a little-endian TIFF's first directory stand in the file.

    The one strip's offset is given by its value instead: that is where the pixels stand.
    """
    (directory,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, directory)
    entries = struct.iter_unpack("<HHII", tiff[directory + 2 : directory + 2 + 12 * count])
    return {tag: value for tag, _, _, value in entries}
