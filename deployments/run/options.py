"""The options of `swath run` and `swath plan`, and the request that they make."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, Token

from deployments.run.images import Images, find_images
from deployments.run.merging import MergingOptions
from deployments.run.model import ModelOptions
from deployments.run.option_help import IMAGE, TILES, message_default
from deployments.run.option_names import naming_options
from deployments.run.pixels import PixelOptions
from deployments.run.raster import RasterOptions, fields_of_answers
from deployments.run.region_of_interest import region_of_interest
from deployments.run.whole_tiles import tile_output
from deployments.run.words import format_names
from tasks.errors import PublishError, RequestError

if TYPE_CHECKING:
    from tasks.request import Request


def _whole_pixels(_: object, tokens: Sequence[Token]) -> int:
    """Reads a number of pixels; the parser itself would round the ratio 0.2 to 0.

    Raises:
        ValueError: It is not written as a whole number.
    """
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number; give pixels, such as 128") from None


@Parameter(name="*")  # its fields are options of the command itself
@dataclass(frozen=True, kw_only=True)
class TilingOptions(PixelOptions):
    """The options for reading an image and cutting it into tiles; None if not given."""

    tile_size: Annotated[
        int | None,
        Parameter(
            group=TILES,
            help="Side of a tile in pixels.",
            converter=_whole_pixels,
            show_default=message_default("tile_size", before="the model's, or "),
        ),
    ] = None
    overlap: Annotated[
        int | None,
        Parameter(
            group=TILES,
            help="Minimum overlap of tiles in pixels.",
            converter=_whole_pixels,
            show_default=message_default("tile_overlap"),
        ),
    ] = None
    tile_format: Annotated[
        str | None,
        Parameter(
            group=TILES,
            help="NITF, GTIFF, PNG, JPEG or NPY.",
            show_default=message_default("tile_format"),
        ),
    ] = None
    tile_compression: Annotated[
        str | None,
        Parameter(
            group=TILES,
            help="NONE, LZW, ZSTD, JPEG or J2K.",
            show_default=message_default("tile_compression"),
        ),
    ] = None
    region_size: Annotated[
        int | None,
        Parameter(
            group=TILES,
            help="Approximate height of a region in pixels; it changes no result.",
            converter=_whole_pixels,
        ),
    ] = None
    roi: Annotated[
        str | None,
        Parameter(
            group=IMAGE,
            help="Region of interest: a file with polygons (GeoJSON, GeoPackage, Shapefile) in any "
            "reference system, or WKT in longitude, latitude.",
        ),
    ] = None
    nodata: Annotated[
        float | None,
        Parameter(group=IMAGE, help="Value of pixels without data, in place of the image's own."),
    ] = None
    alpha: Annotated[
        Literal["mask", "ignore"] | None,
        Parameter(
            group=IMAGE,
            help="What an alpha band is: the mask of pixels with data, or a band as any other.",
            show_default=message_default("image_alpha"),
        ),
    ] = None
    read_role: Annotated[
        str | None, Parameter(group=IMAGE, help="IAM role for reading the image.")
    ] = None

    def message(self) -> dict[str, Any]:
        """The fields of the request message for the options that are given.

        Raises:
            RequestError: An option has an invalid value.
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
            "imageAlpha": self.alpha,
            "regionOfInterest": None if self.roi is None else region_of_interest(self.roi),
        }
        given = {name: value for name, value in fields.items() if value is not None}
        return given | self.pixel_fields()


KEPT = ".swath"
"""Name of the folder, in that for the results, in which the model's answers are kept."""


def new_job_id() -> str:
    """An identifier for a job that was given none."""
    return f"run-{token_hex(4)}"


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of `swath run`.

    Attributes:
        images: Paths of images or folders, patterns, and s3:// URLs.
        model: The model.
        out: Folder for the results.
        tiling: Options for reading the images and cutting them into tiles.
        merging: Options for filtering and merging detections.
        raster: Options for a model that answers with pixels.
        tile_output: What a model answers about whole tiles; None if not given.
        formats: Formats of the files with features; none for those of the message.
        job_id: Identifier of the job; else a random one.
        preview: File for a picture of the image with its features, .png or .jpg; None for none.
        fresh: Whether to ask for all tiles, also those that an earlier run was answered.
        max_tiles: Tiles that the model is asked for, at the most; None without a limit.
        max_cost: What the job may cost, at the most; None without a limit.
    """

    images: tuple[str, ...]
    model: ModelOptions
    out: Path
    tiling: TilingOptions = TilingOptions()
    merging: MergingOptions = field(default_factory=MergingOptions)
    raster: RasterOptions = field(default_factory=RasterOptions)
    tile_output: str | None = None
    formats: tuple[str, ...] = ()
    job_id: str = field(default_factory=new_job_id)
    preview: Path | None = None
    fresh: bool = False
    max_tiles: int | None = None
    max_cost: float | None = None

    @cached_property
    def found(self) -> Images:
        """The images.

        Raises:
            ImageError: There are none, or one cannot be read.
        """
        return find_images(self.images)

    def request(self) -> Request:
        """The request for the images: one job.

        Raises:
            SwathError: An option has an invalid value.
        """
        output: dict[str, Any] = {"type": "File", "path": str(self.out.resolve())}
        if names := format_names(self.formats):
            output["formats"] = names
        fields: dict[str, Any] = {"jobId": self.job_id, "outputs": [output]}
        fields |= self.model.message() | self.tiling.message()
        fields |= fields_of_answers(self.merging, self.raster) | tile_output(self.tile_output)
        limits = {"maxTiles": self.max_tiles, "maxCost": self.max_cost}
        fields |= {name: value for name, value in limits.items() if value is not None}
        request = build_request(self.found, fields)
        self._check_roi_stays(request)
        return request

    def roots(self) -> list[Path]:
        """The local roots to allow: the folders of the results and of every file in the options."""
        return [self.out.resolve(), *self.found.roots, *self.model.folders()]

    @property
    def answers(self) -> Path:
        """Where the model's answers are kept, for the next run into the folder."""
        return self.out.resolve() / KEPT

    def make_folder(self) -> None:
        """Make the folder for the results, unless it exists.

        Raises:
            PublishError: It is not a usable folder.
        """
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PublishError(
                f"--out: {self.out} is not a usable folder ({error}); give a folder that you may "
                "write to."
            ) from error

    def _check_roi_stays(self, request: Request) -> None:
        """Refuse a file with the region of interest that the results would overwrite."""
        roi = Path(os.path.realpath(self.tiling.roi or ""))
        if not self.tiling.roi or roi.parent != self.out.resolve():
            return
        from tasks.publish.formats import FILE_ENDINGS
        from tasks.publish.manifest import MANIFEST

        stems, endings = request.file_names().values(), {*FILE_ENDINGS.values(), MANIFEST}
        if roi.name in {f"{stem}.{ending}" for stem in stems for ending in endings}:
            raise RequestError(
                f"--roi: {self.tiling.roi} would be overwritten by the results; rename it, or give "
                "another folder for --out."
            )


def build_request(images: Images, fields: dict[str, Any]) -> Request:
    """The request for images.

    Args:
        images: The images.
        fields: The other fields of the message.

    Raises:
        RequestError: An option has an invalid value; the message names the option.
    """
    from tasks.request import Request

    with naming_options():
        return Request.parse(json.dumps({"imageUrls": list(images.urls)} | fields))
