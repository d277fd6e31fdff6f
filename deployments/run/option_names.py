"""Errors that name the options of the command line in place of the message's fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.errors import SwathError

_ALGORITHM = r"postProcessing\[0\]\.algorithm\."
_RASTER = r"rasterOutput(?:\.|: )"
_OPTIONS = {  # patterns of the message's fields, the longer of two that begin alike first
    "imageProcessorTileSize": "--tile-size",
    "imageProcessorTileOverlap": "--overlap",
    "imageProcessorTileFormat": "--tile-format",
    "imageProcessorTileCompression": "--tile-compression",
    r"imageProcessorParameters\.": "--parameter ",
    "imageProcessorParameters": "--parameter",
    r"imageProcessor\.name": "--model",
    r"imageProcessor\.type": "--type",
    r"imageUrls(\[\d+\])?": "IMAGES",
    "imageReadRole": "--read-role",
    "imageNodata": "--nodata",
    r"imageBands(\[\d+\])?": "--bands",
    r"imageScaling\.": "--scale ",
    "imageScaling": "--scale",
    "imageResolution": "--resolution",
    "imageFill": "--fill",
    "imageAlpha": "--alpha",
    "regionOfInterest": "--roi",
    r"outputs\[\d+\]\.formats(\[\d+\])?": "--formats",
    r"outputs\[0\](\.path)?": "--out",
    "jobId": "--job-id",
    "maxTiles": "--max-tiles",
    "maxCost": "--max-cost",
    _ALGORITHM + "algorithmType": "--merge",
    _ALGORITHM + "iouThreshold": "--iou",
    _ALGORITHM + "measure": "--measure",
    _ALGORITHM + "skipBoxThreshold": "--conf",
    _ALGORITHM + r"classThresholds\.": "--conf ",
    _ALGORITHM + "classThresholds": "--conf",
    _ALGORITHM + r"classes(\[\d+\])?": "--classes",
    _ALGORITHM + "classAgnostic": "--class-agnostic",
    r"algorithm\.classes": "--classes",
    r"algorithm\.algorithmType": "--merge",
    _RASTER + "values": "--raster",
    _RASTER + "blend": "--blend",
    _RASTER + "augmentation": "--augment",
    _RASTER + "scores": "--scores",
    _RASTER + r"polygons\.minimumArea": "--min-area",
    _RASTER + r"polygons\.classes(\[\d+\])?": "--classes",
    _RASTER + "polygons": "--polygons",
    _RASTER + r"classes(\[\d+\](\.\w+)?)?": "--class-names",
    "rasterOutput": "--raster",
    r"tileOutput\.values": "--tile-output",
    "tileOutput": "--tile-output",
}
_FIELDS = re.compile(rf"(?<![\w./-])(?:{'|'.join(_OPTIONS)})")  # not within a path


@contextmanager
def naming_options() -> Iterator[None]:
    """Let an error of the block name options where it names fields of the message."""
    try:
        yield
    except SwathError as error:
        error.args = (in_options(str(error)), *error.args[1:])
        raise


def in_options(text: str) -> str:
    """A text with the option of the command line for each field of the message in it."""
    return _FIELDS.sub(_option, text)


def _option(found: re.Match[str]) -> str:
    return next(option for field, option in _OPTIONS.items() if re.fullmatch(field, found.group()))
