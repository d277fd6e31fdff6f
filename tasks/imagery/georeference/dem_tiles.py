"""Combines the elevation tiles of a folder into one raster around an image."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError

from tasks.aws import clients
from tasks.errors import ImageError
from tasks.imagery.georeference.dem_source import DemSource, source_of
from tasks.imagery.georeference.transformers import wrap_near

Extent = tuple[float, float, float, float]
"""West, south, east, north in degrees; longitudes exceed 180° across the antimeridian."""

# N45W074 or N45_00_W074_00
_CELL_NAME = re.compile(r"([NS])(\d{1,2})(?:_00)?_?([EW])(\d{1,3})", re.IGNORECASE)
_MAX_TILES = 400  # around one image


@dataclass(frozen=True)
class _Tile:
    """A tile: its source, its bounds in its CRS, and its rows and columns."""

    source: DemSource
    west: float
    south: float
    east: float
    north: float
    shape: tuple[int, int]
    nodata: float | None
    crs: Any


def mosaic(folder: str, extent: Extent) -> DemSource | None:
    """Combine the tiles of a folder that cover an extent; None if no tile does.

    Tiles named after a corner, as those of SRTM and Copernicus are (N45W074, N45_00_W074_00), are
    opened only if they are near the extent; tiles with other names are always opened. The raster
    has the cell size of the finest tile; coarser tiles are interpolated.

    Args:
        folder: A path or `s3://bucket/prefix`, searched with its subfolders.
        extent: The approximate extent of the image.

    Raises:
        ImageError: The folder has no tiles, too many near the extent, or tiles of several CRS.
    """
    names = [name for name in _listed(folder) if _touches(name, extent)]
    if len(names) > _MAX_TILES:
        raise ImageError(
            f"SWATH_DEM_URI: {len(names)} tiles of {folder} may cover a single image: name them "
            "N45W074.tif and so on, or combine them into one VRT with gdalbuildvrt."
        )
    tiles = [_opened(name, (extent[0] + extent[2]) / 2) for name in names]
    if not tiles:
        return None
    if len({(tile.crs.to_wkt() if tile.crs else "") for tile in tiles}) > 1:
        raise ImageError(
            f"SWATH_DEM_URI: the tiles of {folder} have different reference systems: reproject "
            "them to one."
        )
    return DemSource(folder, _vrt(tiles), in_s3=folder.startswith("s3://"))


@lru_cache(maxsize=4)
def _listed(folder: str) -> Sequence[str]:
    """The GeoTIFFs in a folder and its subfolders."""
    names = sorted(_objects(folder) if folder.startswith("s3://") else _files(folder))
    if not names:
        raise ImageError(
            f"SWATH_DEM_URI: {folder} is neither a GeoTIFF or VRT nor a folder with GeoTIFF tiles: "
            "give one of these."
        )
    return names


def _files(folder: str) -> Iterator[str]:
    return (str(path) for path in Path(folder).rglob("*") if _is_tile(path.name))


def _objects(folder: str) -> Iterator[str]:
    bucket, _, prefix = folder.removeprefix("s3://").partition("/")
    prefix = f"{prefix.rstrip('/')}/" if prefix else ""
    try:
        pages = clients.client("s3").get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix):
            keys = (entry["Key"] for entry in page.get("Contents", ()))
            yield from (f"s3://{bucket}/{key}" for key in keys if _is_tile(key))
    except (ClientError, BotoCoreError) as error:
        raise ImageError(
            f"SWATH_DEM_URI: {folder} cannot be listed ({error}): grant s3:ListBucket and "
            "s3:GetObject, or give a VRT of the tiles."
        ) from error


def _is_tile(name: str) -> bool:
    return name.lower().endswith((".tif", ".tiff"))


def _touches(name: str, extent: Extent) -> bool:
    """Whether a tile may cover a part of an extent, by its name."""
    cell = _CELL_NAME.search(name.rpartition("/")[2])
    if not cell:
        return True
    latitude = int(cell[2]) * (-1 if cell[1] in "Ss" else 1)
    longitude = int(cell[4]) * (-1 if cell[3] in "Ww" else 1)
    west, south, east, north = extent
    centre = float(wrap_near(np.array(longitude + 0.5), (west + east) / 2))
    # one degree more to the south and north: some data sets name the northern corner
    return (
        centre - 0.6 <= east
        and centre + 0.6 >= west
        and latitude - 1.1 <= north
        and latitude + 1.1 >= south
    )


def _opened(name: str, centre: float) -> _Tile:
    source = source_of(name)
    with source.opened() as dataset:
        west, south, east, north = dataset.bounds
        if dataset.crs and dataset.crs.is_geographic:
            shift = float(wrap_near(np.array((west + east) / 2), centre)) - (west + east) / 2
            west, east = west + shift, east + shift
        shape = (dataset.height, dataset.width)
        return _Tile(source, west, south, east, north, shape, dataset.nodata, dataset.crs)


def _vrt(tiles: list[_Tile]) -> str:
    """A VRT of all tiles, as XML for GDAL."""
    width = min((tile.east - tile.west) / tile.shape[1] for tile in tiles)
    height = min((tile.north - tile.south) / tile.shape[0] for tile in tiles)
    west, north = min(tile.west for tile in tiles), max(tile.north for tile in tiles)
    columns = round((max(tile.east for tile in tiles) - west) / width)
    rows = round((north - min(tile.south for tile in tiles)) / height)
    crs = tiles[0].crs
    sources = "".join(_vrt_source(tile, west, north, width, height) for tile in tiles)
    return (
        f'<VRTDataset rasterXSize="{columns}" rasterYSize="{rows}">'
        f"<SRS>{escape(crs.to_wkt() if crs else '')}</SRS>"
        f"<GeoTransform>{west!r},{width!r},0,{north!r},0,{-height!r}</GeoTransform>"
        '<VRTRasterBand dataType="Float64" band="1"><NoDataValue>nan</NoDataValue>'
        f"{sources}</VRTRasterBand></VRTDataset>"
    )


def _vrt_source(tile: _Tile, west: float, north: float, width: float, height: float) -> str:
    rows, columns = tile.shape
    left, top = (tile.west - west) / width, (north - tile.north) / height
    across, down = (tile.east - tile.west) / width, (tile.north - tile.south) / height
    nodata = "" if tile.nodata is None else f"<NODATA>{tile.nodata!r}</NODATA>"
    return (
        '<ComplexSource resampling="bilinear">'
        f"<SourceFilename>{escape(tile.source.path)}</SourceFilename><SourceBand>1</SourceBand>"
        f'<SrcRect xOff="0" yOff="0" xSize="{columns}" ySize="{rows}"/>'
        f'<DstRect xOff="{left!r}" yOff="{top!r}" xSize="{across!r}" ySize="{down!r}"/>'
        f"{nodata}</ComplexSource>"
    )
