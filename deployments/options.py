"""What `swath run` and `swath plan` are both told: the image, and how it is to be cut."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tasks.errors import ImageError, RequestError

if TYPE_CHECKING:
    from tasks.request import Request


@Parameter(name="*")  # its fields are options of the command itself
@dataclass(frozen=True, kw_only=True)
class Cut:
    """How an image is cut and read; None where nothing was typed, so that the defaults hold."""

    tile_size: Annotated[int | None, Parameter(help="Pixels of a tile's side.")] = None
    overlap: Annotated[int | None, Parameter(help="Pixels that tiles share at least.")] = None
    tile_format: Annotated[str | None, Parameter(help="NITF, GTIFF, PNG, JPEG or NPY.")] = None
    tile_compression: Annotated[str | None, Parameter(help="NONE, LZW, ZSTD, JPEG, J2K.")] = None
    roi: Annotated[str | None, Parameter(help="Where to look: WKT, longitude latitude.")] = None
    nodata: Annotated[
        float | None, Parameter(help="Value of pixels without data, whatever the image says.")
    ] = None
    read_role: Annotated[str | None, Parameter(help="IAM role to read the image with.")] = None
    region_size: Annotated[int | None, Parameter(help="Rows of a region, about.")] = None

    def message(self) -> dict[str, Any]:
        """The fields of a request that were typed.

        Raises:
            RequestError: An option that no request has cannot be honoured.
        """
        if self.region_size is not None and self.region_size < 1:
            raise RequestError(f"--region-size: {self.region_size} is not 1 or more.")
        if self.nodata is not None and not isfinite(self.nodata):
            raise RequestError(
                f"--nodata: {self.nodata} is no finite number: have the image declare it, with "
                "gdal_edit.py -a_nodata nan."
            )
        fields = {
            "imageProcessorTileSize": self.tile_size,
            "imageProcessorTileOverlap": self.overlap,
            "imageProcessorTileFormat": self.tile_format,
            "imageProcessorTileCompression": self.tile_compression,
            "imageReadRole": self.read_role,
            "imageNodata": self.nodata,
            "regionOfInterest": self.roi,
        }
        return {name: value for name, value in fields.items() if value is not None}


def request_of(image: str, cut: Cut, fields: dict[str, Any]) -> Request:
    """The message that asks for an image to be cut so.

    Args:
        image: Path, or s3:// URL.
        cut: How.
        fields: What else the message has.

    Raises:
        ImageError: There is no such file.
        RequestError: An option cannot be honoured.
    """
    from tasks.request import Request

    if "://" not in image and not Path(image).is_file():
        raise ImageError(f"{image}: there is no such file; give the path of one image.")
    return Request.parse(json.dumps(cut.message() | {"imageUrls": [url_of(image)]} | fields))


def url_of(image: str) -> str:
    """An image as a message names it."""
    return image if "://" in image else str(located(image))


def roots_of(image: str) -> list[Path]:
    """The folders that must be allowed for an image to be read."""
    return [] if "://" in image else [located(image).parent]


def located(file: str) -> Path:
    """Where a file is, from the root on and without `..`; a link keeps its own name."""
    path = Path(file).absolute()
    return path.parent.resolve() / path.name
