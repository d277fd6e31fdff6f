"""Imagery: open an image of any size, read its tiles, know where they lie, encode them."""

from tasks.imagery.encoding.encode import check_encodable, encoder, media_type
from tasks.imagery.environment import gdal_environment
from tasks.imagery.georeference.interface import Georeference
from tasks.imagery.image import Image
from tasks.imagery.opening.source import open_image
from tasks.imagery.reading.pixels import AbsentTile, ReadTile, TilePixels, UnreadTile
from tasks.imagery.reading.strips import read_tiles
from tasks.imagery.reading.valid import with_nodata
from tasks.imagery.reading.windows import widest

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
