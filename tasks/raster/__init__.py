"""Rasters: the answers of overlapping tiles as one raster, in blocks, and in a COG file."""

from tasks.raster.blocks import BLOCK
from tasks.raster.compression import predictor
from tasks.raster.layers import Layer, layers_of
from tasks.raster.missing import missing_pixels
from tasks.raster.painter import Painter
from tasks.raster.polygons import Polygon, polygons_of
from tasks.raster.raster import Raster, put_together

__all__ = [
    "BLOCK",
    "Layer",
    "Painter",
    "Polygon",
    "Raster",
    "layers_of",
    "missing_pixels",
    "polygons_of",
    "predictor",
    "put_together",
]
