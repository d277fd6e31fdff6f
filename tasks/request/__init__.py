"""The request message, validated in full before any image is read.

`Request.parse` reads the text of a message into a frozen `Request`, or raises RequestError with a
line for each problem: the field, the value, the remedy. Names, types and defaults are those of
OversightML Model Runner 3, so that its producers work unchanged.
"""

from tasks.request.image_scaling import ImageScaling, ScalingType
from tasks.request.message import Request, describe_errors
from tasks.request.outputs import FeatureFormat, FileOutput, KinesisOutput, Output, S3Output
from tasks.request.post_processing import Algorithm, AlgorithmType, Measure, PostProcessing
from tasks.request.processor import EndpointType, ImageProcessor
from tasks.request.raster_output import RasterClass, RasterOutput
from tasks.request.schema import request_schema
from tasks.request.tile_encoding import TileCompression, TileFormat
from tasks.request.tile_output import TileOutput, TileValues

__all__ = [
    "Algorithm",
    "AlgorithmType",
    "EndpointType",
    "FeatureFormat",
    "FileOutput",
    "ImageProcessor",
    "ImageScaling",
    "KinesisOutput",
    "Measure",
    "Output",
    "PostProcessing",
    "RasterClass",
    "RasterOutput",
    "Request",
    "S3Output",
    "ScalingType",
    "TileCompression",
    "TileFormat",
    "TileOutput",
    "TileValues",
    "describe_errors",
    "request_schema",
]
