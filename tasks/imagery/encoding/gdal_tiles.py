"""Tiles through GDAL: compressed GeoTIFF and NITF, and the samples of the uncompressed ones."""

from __future__ import annotations

import re
import warnings
from typing import Any

import rasterio.shutil
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from tasks.imagery.encoding.nitf_geotags import NitfGeotags, extended, igeolo
from tasks.imagery.encoding.tiff_geotags import TiffGeotags
from tasks.imagery.image import Image
from tasks.imagery.reading.tile_pixels import TilePixels

_QUALITY = 90  # of JPEG
_UNKNOWN_TIME = "-" * 14  # as MIL-STD-2500C writes it

_GTIFF: dict[str, dict[str, Any]] = {
    "NONE": {},
    "LZW": {"compress": "lzw"},
    "ZSTD": {"compress": "zstd", "zstd_level": 1},
    "JPEG": {"compress": "jpeg", "jpeg_quality": _QUALITY},
}
_NITF: dict[str, dict[str, Any]] = {
    "NONE": {},
    "J2K": {"IC": "C8", "PROFILE": "NPJE_NUMERICALLY_LOSSLESS"},  # no other profile is lossless
    "JPEG": {"IC": "C3", "QUALITY": _QUALITY},
}


def gtiff(image: Image, place: TiffGeotags, compression: str, tile: TilePixels) -> bytes:
    """A tile as GeoTIFF, its bands pixel by pixel, with its place, nodata and colours."""
    options = _GTIFF[compression] | place.options(tile.tile.window)
    if compression == "JPEG" and image.bands == 3:
        options["photometric"] = "ycbcr"
    return _written(image, tile.pixels, nodata=image.nodata, interleave="pixel", **options)


def nitf(image: Image, place: NitfGeotags, compression: str, tile: TilePixels) -> bytes:
    """A tile as NITF 2.1, with its place, colours, and the markings of a NITF it comes from."""
    options = _NITF[compression] | _header(image)
    corners = place.corners(tile.tile.window)
    if corners is not None:
        options |= {"ICORDS": "G", "IGEOLO": igeolo(corners).decode()}
    # NITF cannot be compressed while it is written, only as a copy.
    with MemoryFile(_written(image, tile.pixels)) as plain, MemoryFile(ext=".ntf") as copy:
        rasterio.shutil.copy(plain.name, copy.name, driver="NITF", **options)
        return extended(bytes(copy.read()), place.extensions(tile.tile.window, corners))


def _header(image: Image) -> dict[str, str]:
    """Fields of a NITF's headers that tell of the image: its markings, title, category, time."""
    source = image.source_metadata[0] if image.source_metadata else {}
    time = re.sub(r"\D", "", source.get("sourceDT") or "")[:14]
    header = {"IDATIM": time if len(time) == 14 else _UNKNOWN_TIME}
    header |= {"FTITLE": title} if (title := source.get("sourceId")) else {}
    header |= {"ICAT": category} if (category := source.get("category")) else {}
    return header | (image.nitf.fields if image.nitf else {})


def _written(image: Image, pixels: NDArray[Any], **options: object) -> bytes:
    """A GeoTIFF of these pixels."""
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)  # see gdal_environment
    bands, height, width = pixels.shape
    shape = {"count": bands, "height": height, "width": width, "dtype": pixels.dtype.name}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", blockysize=height, **shape, **options) as dataset:
            if image.palette:
                dataset.write_colormap(1, image.palette)
            elif options.get("photometric") != "ycbcr":
                # Else GDAL guesses by the number of bands, and takes a fourth one for alpha.
                dataset.colorinterp = [ColorInterp[colour] for colour in image.colours]
            dataset.write(pixels)
        return bytes(memory.read())
