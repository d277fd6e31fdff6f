"""Tiles through GDAL: compressed GeoTIFF and NITF, and the samples of the uncompressed ones."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from rasterio.windows import Window

from tasks.imagery.georeference import AffineGeoreference
from tasks.imagery.pixels import TilePixels
from tasks.imagery.source import Image

_QUALITY = 90  # of JPEG

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


def gtiff(image: Image, compression: str, tile: TilePixels) -> bytes:
    """A tile as GeoTIFF, its bands pixel by pixel, with CRS and geotransform where there are."""
    georeference = image.georeference
    placed: dict[str, Any] = {}
    if isinstance(georeference, AffineGeoreference):
        placed = {
            "crs": georeference.crs,
            "transform": georeference.tile_transform(tile.tile.window),
        }
    if compression == "JPEG" and image.bands == 3:
        placed["photometric"] = "ycbcr"
    elif image.bands == 4 and image.alpha is None:
        placed["alpha"] = "unspecified"  # GDAL takes a fourth band for alpha unless told
    return _written(
        tile.pixels, nodata=image.nodata, interleave="pixel", **_GTIFF[compression], **placed
    )


def nitf(image: Image, compression: str, tile: TilePixels) -> bytes:
    """A tile as NITF 2.1, with its corners where the image is georeferenced."""
    options = dict(_NITF[compression])
    if image.georeference:
        options |= {"ICORDS": "G", "IGEOLO": igeolo(image, tile.tile.window)}
    # NITF cannot be compressed while it is written, only as a copy.
    with MemoryFile(_written(tile.pixels)) as plain, MemoryFile(ext=".ntf") as copy:
        rasterio.shutil.copy(plain.name, copy.name, driver="NITF", **options)
        return bytes(copy.read())


def igeolo(image: Image, window: Window) -> str:
    """A tile's corners as NITF writes them (MIL-STD-2500C, IGEOLO with ICORDS G).

    They are the centres of the corner pixels, clockwise from the first, to a second of arc.
    """
    assert image.georeference
    left, top = window.col_off + 0.5, window.row_off + 0.5
    right, bottom = left + window.width - 1, top + window.height - 1
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    lonlat = np.nan_to_num(image.georeference.to_world(corners))
    return "".join(_dms(lat, 2, "NS") + _dms(lon, 3, "EW") for lon, lat in lonlat)


def _dms(degrees: float, digits: int, signs: str) -> str:
    minutes, seconds = divmod(round(abs(degrees) * 3600), 60)
    whole, minutes = divmod(minutes, 60)
    return f"{whole:0{digits}d}{minutes:02d}{seconds:02d}{signs[int(degrees < 0)]}"


def _written(pixels: NDArray[Any], **options: object) -> bytes:
    """A GeoTIFF of these pixels."""
    warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)  # see gdal_environment
    bands, height, width = pixels.shape
    shape = {"count": bands, "height": height, "width": width, "dtype": pixels.dtype.name}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", blockysize=height, **shape, **options) as dataset:
            dataset.write(pixels)
        return bytes(memory.read())
