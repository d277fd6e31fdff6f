"""Encodes tiles with GDAL: compressed GeoTIFF and NITF, and templates of uncompressed ones."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from tasks.imagery.encoding.nitf_geotags import NitfGeotags, add_extensions, igeolo
from tasks.imagery.encoding.tiff_geotags import TiffGeotags
from tasks.imagery.environment import gdal_options
from tasks.imagery.image import Image
from tasks.imagery.reading.tile_pixels import TilePixels

JPEG_QUALITY = 90
_UNKNOWN_TIME = "-" * 14  # as MIL-STD-2500C defines it

_GTIFF: dict[str, dict[str, Any]] = {
    "NONE": {},
    "LZW": {"compress": "lzw"},
    "ZSTD": {"compress": "zstd", "zstd_level": 1},
    "JPEG": {"compress": "jpeg", "jpeg_quality": JPEG_QUALITY},
}
_NITF: dict[str, dict[str, Any]] = {
    "NONE": {},
    "J2K": {"IC": "C8", "PROFILE": "NPJE_NUMERICALLY_LOSSLESS"},  # the only lossless profile
    "JPEG": {"IC": "C3", "QUALITY": JPEG_QUALITY},
}


def gtiff(image: Image, geotags: TiffGeotags, compression: str, tile: TilePixels) -> bytes:
    """Encode a tile as GeoTIFF, pixel-interleaved, with its georeference and validity.

    It has the names, scales and offsets of the image's bands, and their colours.

    The pixels without data are those of the image's nodata value or alpha band; if neither tells
    them, a mask does.
    """
    options = _GTIFF[compression] | geotags.options(tile.tile.window)
    if compression == "JPEG" and image.bands == 3:
        options["photometric"] = "ycbcr"
    options |= {"nodata": image.nodata, "interleave": "pixel"}
    return _gtiff_bytes(image, tile.pixels, mask_of(image, tile), named=True, **options)


def mask_of(image: Image, tile: TilePixels) -> NDArray[np.bool_] | None:
    """The mask that tells a tile's pixels without data; None if there are none, or others do."""
    if image.nodata is not None or (valid := tile.valid) is None or valid.all():
        return None
    if image.alpha and ((tile.pixels[image.alpha - 1] != 0) == valid).all():
        return None
    return valid


def nitf(image: Image, geotags: NitfGeotags, compression: str, tile: TilePixels) -> bytes:
    """Encode a tile as NITF 2.1, with its georeference, colours and the markings of the image."""
    options = _NITF[compression] | _header(image)
    corners = geotags.corners(tile.tile.window)
    if corners is not None:
        options |= {"ICORDS": "G", "IGEOLO": igeolo(corners).decode()}
    # GDAL can compress NITF only when it copies a dataset.
    source = MemoryFile(_gtiff_bytes(image, tile.pixels))
    with gdal_options(), source as plain, MemoryFile(ext=".ntf") as copy:
        rasterio.shutil.copy(plain.name, copy.name, driver="NITF", **options)
        return add_extensions(bytes(copy.read()), geotags.extensions(tile.tile.window, corners))


def _header(image: Image) -> dict[str, str]:
    """Header fields of a NITF tile, from the image: security markings, title, category, time."""
    source = image.source_metadata[0] if image.source_metadata else {}
    time = re.sub(r"\D", "", source.get("sourceDT") or "")[:14]
    header = {"IDATIM": time if len(time) == 14 else _UNKNOWN_TIME}
    header |= {"FTITLE": title} if (title := source.get("sourceId")) else {}
    header |= {"ICAT": category} if (category := source.get("category")) else {}
    return header | (image.nitf.fields if image.nitf else {})


def _gtiff_bytes(
    image: Image,
    pixels: NDArray[Any],
    mask: NDArray[np.bool_] | None = None,
    *,
    named: bool = False,
    **options: object,
) -> bytes:
    """The bytes of a GeoTIFF with these pixels (bands, rows, columns), in their own dtype."""
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)  # see gdal_environment
    bands, height, width = pixels.shape
    shape = {"count": bands, "height": height, "width": width, "dtype": pixels.dtype.name}
    with gdal_options(GDAL_TIFF_INTERNAL_MASK=True), MemoryFile() as memory:
        with memory.open(driver="GTiff", blockysize=height, **shape, **options) as dataset:
            if options.get("photometric") != "ycbcr":
                # Otherwise GDAL guesses from the number of bands, and takes a fourth band as alpha.
                dataset.colorinterp = [ColorInterp[colour] for colour in image.colours]
            if named:
                _describe_bands(image, dataset)
            dataset.write(pixels)
            if mask is not None:
                dataset.write_mask(mask)
        return bytes(memory.read())


def _describe_bands(image: Image, dataset: Any) -> None:  # noqa: ANN401 - rasterio has no types
    """Write what a band's values are; before its pixels, so that it stands in front of them."""
    if image.scales:
        dataset.scales = image.scales
    if image.offsets:
        dataset.offsets = image.offsets
    for number, text in enumerate(image.descriptions, 1):
        if text:
            dataset.set_band_description(number, text)
