"""The tile formats that requests may name, and their encoders: all bands, in full bit depth.

Uncompressed GeoTIFF and NITF, PNG, JPEG and NPY are written directly, as GDAL is several times
slower for small files; the compressed kinds of GeoTIFF and NITF are written by GDAL.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import numpy as np
import simplejpeg

from tasks.errors import RequestError
from tasks.imagery.encoding.gdal_tiles import JPEG_QUALITY, gtiff, nitf
from tasks.imagery.encoding.nitf_geotags import NitfGeotags
from tasks.imagery.encoding.png import png
from tasks.imagery.encoding.tiff_geotags import TiffGeotags
from tasks.imagery.encoding.uncompressed import NitfWriter, TiffWriter
from tasks.imagery.image import Image
from tasks.imagery.reading.tile_pixels import TilePixels

_BYTE = frozenset({"uint8"})
_SHORT = frozenset({"uint8", "uint16"})
_NITF = frozenset(
    {"uint8", "uint16", "int16", "uint32", "int32", "float32", "float64", "complex64"}
)
_ALL = _NITF | {"int8", "int64", "uint64", "complex128"}
_ANY_BANDS = range(1, 65536)  # TIFF stores the number in 16 bits
_GREY_OR_RGB = (1, 3)

_SUPPORTED: dict[tuple[str, str], tuple[frozenset[str], range | tuple[int, ...]]] = {
    # (format, compression): pixel types and numbers of bands that it stores correctly
    ("GTIFF", "NONE"): (_ALL, _ANY_BANDS),
    ("GTIFF", "LZW"): (_ALL, _ANY_BANDS),
    ("GTIFF", "ZSTD"): (_ALL, _ANY_BANDS),
    ("GTIFF", "JPEG"): (_BYTE, _GREY_OR_RGB),
    ("NITF", "NONE"): (_NITF, range(1, 1000)),
    ("NITF", "J2K"): (_SHORT | {"int16"}, range(1, 1000)),
    ("NITF", "JPEG"): (_BYTE, _GREY_OR_RGB),
    ("PNG", "NONE"): (_SHORT, range(1, 5)),
    ("JPEG", "NONE"): (_BYTE, _GREY_OR_RGB),
    ("JPEG", "JPEG"): (_BYTE, _GREY_OR_RGB),
    ("NPY", "NONE"): (_ALL, _ANY_BANDS),
}

_MEDIA_TYPES = {
    "GTIFF": "image/tiff; application=geotiff",
    "NITF": "application/vnd.nitf",
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "NPY": "application/x-npy",
}


def media_type(tile_format: str) -> str:
    """The media type of a tile format, for the header Content-Type."""
    return _MEDIA_TYPES[str(tile_format)]


def check_encodable(image: Image, tile_format: str, tile_compression: str) -> None:
    """Refuse a tile format that would lose or corrupt an image's pixels.

    Args:
        image: The image whose tiles will be encoded.
        tile_format: Value of `imageProcessorTileFormat`.
        tile_compression: Value of `imageProcessorTileCompression`.

    Raises:
        RequestError: The format cannot store the image; the message has the field, the value and
            the alternatives.
    """
    pair = str(tile_format), str(tile_compression)
    if pair not in _SUPPORTED:
        fitting = sorted(compression for form, compression in _SUPPORTED if form == pair[0])
        if not fitting:
            raise RequestError(f"imageProcessorTileFormat {pair[0]} is not one of {_formats()}.")
        raise RequestError(
            f"imageProcessorTileCompression {pair[1]} is not available for "
            f"imageProcessorTileFormat {pair[0]}: use {' or '.join(fitting)}."
        )
    if lost := _lost(image, pair):
        raise RequestError(
            f"imageProcessorTileFormat {pair[0]} with imageProcessorTileCompression {pair[1]} "
            f"cannot store the {lost} of {image.url}: {_instead(image)}"
        )


def _lost(image: Image, pair: tuple[str, str]) -> str | None:
    """The property of an image that a format and compression cannot store; None without one."""
    dtypes, bands = _SUPPORTED[pair]
    if image.dtype not in dtypes:
        return f"{image.dtype} pixels"
    if image.bands not in bands:
        return f"{image.bands} bands"
    if pair[0] == "NITF" and image.nitf and (standard := image.nitf.standard):
        kind = image.georeference.kind if image.georeference else None
        stored = standard == "SICD" and kind == "sicd" and pair[1] == "NONE"
        return None if stored else f"sensor model ({standard})"
    return None


def encoder(image: Image, tile_format: str, tile_compression: str) -> Callable[[TilePixels], bytes]:
    """A function that encodes an image's tiles; threads may share it.

    GeoTIFF tiles have the georeference of the image, shifted to the tile. NITF tiles have their
    corner coordinates, their position in the image (ICHIPB) and the RPC of the image. NPY is an
    array (bands, rows, columns). JPEG is lossy, all other formats are lossless.

    Args:
        image: The image whose tiles will be encoded.
        tile_format: Value of `imageProcessorTileFormat`.
        tile_compression: Value of `imageProcessorTileCompression`.

    Raises:
        RequestError: The format would lose or corrupt the pixels.
    """
    check_encodable(image, tile_format, tile_compression)
    form, compression = str(tile_format), str(tile_compression)
    if form == "GTIFF":
        if compression == "NONE":
            return TiffWriter(image)
        return partial(gtiff, image, TiffGeotags(image), compression)
    if form == "NITF":
        return _nitf(image, compression)
    if form == "PNG":
        return lambda tile: png(tile.pixels)
    return _jpeg if form == "JPEG" else _npy


def _nitf(image: Image, compression: str) -> Callable[[TilePixels], bytes]:
    if image.nitf and image.nitf.standard:
        from tasks.imagery.encoding.sicd_chip import SicdWriter  # noqa: PLC0415 - an optional extra

        return SicdWriter(image)
    plain = compression == "NONE"
    return NitfWriter(image) if plain else partial(nitf, image, NitfGeotags(image), compression)


def _npy(tile: TilePixels) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(tile.pixels), allow_pickle=False)
    return file.getvalue()


def _jpeg(tile: TilePixels) -> bytes:
    bands, height, width = tile.pixels.shape
    rows = np.empty((height, width, bands), np.uint8)
    for band in range(bands):
        rows[..., band] = tile.pixels[band]
    colours = "GRAY" if bands == 1 else "RGB"
    return bytes(simplejpeg.encode_jpeg(rows, JPEG_QUALITY, colours, "420"))


def _instead(image: Image) -> str:
    fitting = [
        f"{form}/{compression}"
        for form, compression in _SUPPORTED
        if form in ("GTIFF", "NITF", "NPY") and not _lost(image, (form, compression))
    ]
    return f"use {', '.join(fitting)}." if fitting else "convert the image."


def _formats() -> str:
    return ", ".join(dict.fromkeys(form for form, _ in _SUPPORTED))
