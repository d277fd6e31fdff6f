"""The options that `swath run` and `swath plan` share: the image and its tiling."""

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
class TilingOptions:
    """The options for reading an image and cutting it into tiles; None if not given."""

    tile_size: Annotated[int | None, Parameter(help="Side of a tile in pixels.")] = None
    overlap: Annotated[int | None, Parameter(help="Minimum overlap of tiles in pixels.")] = None
    tile_format: Annotated[str | None, Parameter(help="NITF, GTIFF, PNG, JPEG or NPY.")] = None
    tile_compression: Annotated[str | None, Parameter(help="NONE, LZW, ZSTD, JPEG, J2K.")] = None
    roi: Annotated[str | None, Parameter(help="Region of interest: WKT, longitude latitude.")] = (
        None
    )
    nodata: Annotated[
        float | None, Parameter(help="Value of pixels without data, in place of the image's own.")
    ] = None
    read_role: Annotated[str | None, Parameter(help="IAM role for reading the image.")] = None
    region_size: Annotated[
        int | None, Parameter(help="Approximate height of a region in pixels.")
    ] = None

    def message(self) -> dict[str, Any]:
        """The fields of the request message for the options that are given.

        Raises:
            RequestError: --region-size or --nodata has an invalid value.
        """
        if self.region_size is not None and self.region_size < 1:
            raise RequestError(
                f"--region-size: {self.region_size} is not 1 or more; give rows of pixels."
            )
        if self.nodata is not None and not isfinite(self.nodata):
            raise RequestError(
                f"--nodata: {self.nodata} is not a finite number; declare it in the image, with "
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


def build_request(image: str, tiling: TilingOptions, fields: dict[str, Any]) -> Request:
    """Build the request for one image from the options of a command.

    Args:
        image: Path, or s3:// URL.
        tiling: Options for reading the image and cutting it into tiles.
        fields: The other fields of the message.

    Raises:
        ImageError: There is no such file.
        RequestError: An option has an invalid value.
    """
    from tasks.request import Request

    if Path(image).is_dir():
        raise ImageError(f"{image}: this is a folder; give the path of one image.")
    if "://" not in image and not Path(image).is_file():
        raise ImageError(f"{image}: there is no such file; give the path of one image.")
    return Request.parse(json.dumps(tiling.message() | {"imageUrls": [image_url(image)]} | fields))


def image_url(image: str) -> str:
    """The URL of an image in a request: an s3:// URL, or an absolute path."""
    return image if "://" in image else str(absolute_path(image))


def image_roots(image: str) -> list[Path]:
    """The local roots that must be allowed for reading an image."""
    return [] if "://" in image else [absolute_path(image).parent]


def absolute_path(file: str) -> Path:
    """The absolute path of a file, without `..`; a link that is the file itself is kept."""
    path = Path(file).absolute()
    return path.parent.resolve() / path.name
