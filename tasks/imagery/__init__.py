"""Imagery: open an image of any size, read its tiles, know where they lie, encode them."""

from tasks.imagery.encode import check_encodable, encoder, media_type
from tasks.imagery.environment import gdal_environment
from tasks.imagery.georeference import Georeference
from tasks.imagery.pixels import AbsentTile, ReadTile, TilePixels, UnreadTile
from tasks.imagery.source import Image, open_image
from tasks.imagery.strips import read_tiles
from tasks.imagery.valid import with_nodata
from tasks.imagery.windows import widest

__all__ = [
    "AbsentTile",
    "Georeference",
    "Image",
    "ReadTile",
    "TilePixels",
    "UnreadTile",
    "check_encodable",
    "encoder",
    "gdal_environment",
    "media_type",
    "open_image",
    "read_tiles",
    "widest",
    "with_nodata",
]
