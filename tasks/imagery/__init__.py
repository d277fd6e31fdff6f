"""Opens images of any size, reads their tiles, georeferences and encodes them."""

from tasks.imagery.encoding.tiff_geotags import geotags_of
from tasks.imagery.encoding.tile_formats import check_encodable, encoder, media_type
from tasks.imagery.environment import gdal_environment
from tasks.imagery.georeference import Georeference
from tasks.imagery.georeference.area import areas_of_degrees, areas_of_quadrilaterals, ground_areas
from tasks.imagery.image import Image
from tasks.imagery.opening.mask_file import check_no_mask_file
from tasks.imagery.opening.open_image import open_image
from tasks.imagery.preparation import TilePreparation
from tasks.imagery.reading.resolution import Resolution, source_of
from tasks.imagery.reading.strips import read_tiles
from tasks.imagery.reading.tile_pixels import AbsentTile, ReadTile, TilePixels, UnreadTile
from tasks.imagery.reading.validity import check_value, with_nodata, without_alpha
from tasks.imagery.reading.windows import max_region_width

__all__ = [
    "AbsentTile",
    "Georeference",
    "Image",
    "ReadTile",
    "Resolution",
    "TilePixels",
    "TilePreparation",
    "UnreadTile",
    "areas_of_degrees",
    "areas_of_quadrilaterals",
    "check_encodable",
    "check_no_mask_file",
    "check_value",
    "encoder",
    "gdal_environment",
    "geotags_of",
    "ground_areas",
    "max_region_width",
    "media_type",
    "open_image",
    "read_tiles",
    "source_of",
    "with_nodata",
    "without_alpha",
]
