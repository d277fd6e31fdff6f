"""The options of `swath run` and `swath plan`, and the request that they make."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite, nan
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter, Token

from deployments.run.images import Images, find_images
from deployments.run.model import ModelOptions
from deployments.run.option_names import naming_options
from deployments.run.region_of_interest import region_of_interest
from tasks.errors import PublishError, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.request import Request

MODEL = Group.create_ordered("Model")
IMAGE = Group.create_ordered("Image")
TILES = Group.create_ordered("Tiles")
MERGING = Group.create_ordered("Filter and merge")
RESULTS = Group.create_ordered("Results")


def _default(name: str, *, of_algorithm: bool = False, before: str = "") -> Callable[[object], str]:
    """Shows the default of a field of the message in the help of its option."""

    def show(_: object) -> str:
        from tasks.request import Algorithm, Request

        fields = Request.model_fields
        default = getattr(Algorithm(), name) if of_algorithm else fields[name].default
        return f"{before}{default}"

    return show


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
class TilingOptions:
    """The options for reading an image and cutting it into tiles; None if not given."""

    tile_size: Annotated[
        int | None,
        Parameter(
            group=TILES,
            help="Side of a tile in pixels.",
            converter=_whole_pixels,
            show_default=_default("tile_size", before="the model's, or "),
        ),
    ] = None
    overlap: Annotated[
        int | None,
        Parameter(
            group=TILES,
            help="Minimum overlap of tiles in pixels.",
            converter=_whole_pixels,
            show_default=_default("tile_overlap"),
        ),
    ] = None
    tile_format: Annotated[
        str | None,
        Parameter(
            group=TILES,
            help="NITF, GTIFF, PNG, JPEG or NPY.",
            show_default=_default("tile_format"),
        ),
    ] = None
    tile_compression: Annotated[
        str | None,
        Parameter(
            group=TILES,
            help="NONE, LZW, ZSTD, JPEG or J2K.",
            show_default=_default("tile_compression"),
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
    read_role: Annotated[
        str | None, Parameter(group=IMAGE, help="IAM role for reading the image.")
    ] = None

    def message(self) -> dict[str, Any]:
        """The fields of the request message for the options that are given.

        Raises:
            RequestError: --region-size, --nodata or --roi has an invalid value.
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
            "regionOfInterest": None if self.roi is None else region_of_interest(self.roi),
        }
        return {name: value for name, value in fields.items() if value is not None}


@Parameter(name="*", group=MERGING)
@dataclass(frozen=True, kw_only=True)
class MergingOptions:
    """The options for filtering and merging detections; None or empty if not given."""

    conf: Annotated[
        tuple[str, ...],
        Parameter(
            help="Score below which detections are dropped, 0 to 1; CLASS=SCORE for one class. May "
            "be repeated.",
            allow_leading_hyphen=True,
            show_default=_default("skip_box_threshold", of_algorithm=True),
        ),
    ] = ()
    classes: Annotated[
        tuple[str, ...],
        Parameter(
            help="Classes to keep, separated by commas; the others are dropped before the merge.",
            show_default=lambda _: "all",
        ),
    ] = ()
    merge: Annotated[
        Literal["NMS", "SOFT_NMS", "NMM", "WBF", "DISSOLVE", "NONE"] | None,
        Parameter(
            help="How duplicates of overlapping tiles are removed.",
            show_default=_default("algorithm_type", of_algorithm=True),
        ),
    ] = None
    iou: Annotated[
        float | None,
        Parameter(
            help="Intersection over union above which two detections are one object; 0.2 for "
            "DISSOLVE unless given.",
            allow_leading_hyphen=True,
            show_default=_default("iou_threshold", of_algorithm=True),
        ),
    ] = None
    class_agnostic: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Let detections of different classes be one object.",
            show_default=False,
        ),
    ] = False

    def message(self) -> dict[str, Any]:
        """The fields of the request message for the options that are given.

        Raises:
            RequestError: --conf, --classes or --iou has an invalid value.
        """
        if self.iou is not None and not isfinite(self.iou):
            raise RequestError(f"--iou: {self.iou} is not a finite number; give 0 to 1.")
        classes = list(_words("--classes", self.classes))
        if self.classes and not classes:
            raise RequestError("--classes: names no class; give ship,barge, or leave it out.")
        threshold, by_class = _thresholds(_words("--conf", self.conf))
        if self.conf and threshold is None and not by_class:
            raise RequestError("--conf: has no score; give 0.25 or ship=0.4, or leave it out.")
        algorithm = {
            "algorithmType": self.merge,
            "iouThreshold": self.iou,
            "skipBoxThreshold": threshold,
            "classes": classes,
            "classThresholds": by_class,
            "classAgnostic": self.class_agnostic or None,
        }
        given = {name: value for name, value in algorithm.items() if value not in (None, [], {})}
        return {"postProcessing": [{"algorithm": given}]} if given else {}


def _words(option: str, values: Iterable[str]) -> Iterator[str]:
    """Words separated by commas; a word with a comma is given in double quotes.

    Raises:
        RequestError: A quote is not closed, or there is a line break.
    """
    for value in values:
        try:
            for words in csv.reader([value], skipinitialspace=True, strict=True):
                yield from filter(None, map(str.strip, words))
        except csv.Error as error:
            raise RequestError(
                f"{option}: {value!r:.100} is no list of words ({error}); separate them by commas, "
                "and put one that has a comma or begins with a quote in double quotes."
            ) from error


def _thresholds(words: Iterable[str]) -> tuple[float | None, dict[str, float]]:
    """The score for all classes, if there is one, and those for single classes."""
    for_all: float | None = None
    by_class: dict[str, float] = {}
    for word in words:
        name, equals, text = word.rpartition("=")
        try:
            score = float(text)
        except ValueError:
            score = nan
        if not isfinite(score):
            raise RequestError(
                f"--conf: {word!r} is neither a score nor CLASS=SCORE; give 0.25 or ship=0.4."
            )
        if equals and (not name or name in by_class):
            raise RequestError(f"--conf: {word!r} names no class, or one that has a score already.")
        if not equals and for_all is not None:
            raise RequestError(
                f"--conf: {for_all:g} and {score:g} are both for all classes; give one of them."
            )
        if equals:
            by_class[name.strip()] = score
        else:
            for_all = score
    return for_all, by_class


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
        job_id: Identifier of the job; else a random one.
        preview: File for a picture of the image with its features, .png or .jpg; None for none.
    """

    images: tuple[str, ...]
    model: ModelOptions
    out: Path
    tiling: TilingOptions = TilingOptions()
    merging: MergingOptions = MergingOptions()
    job_id: str = field(default_factory=new_job_id)
    preview: Path | None = None

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
        fields: dict[str, Any] = {
            "jobId": self.job_id,
            "outputs": [{"type": "File", "path": str(self.out.resolve())}],
        }
        fields |= self.model.message() | self.tiling.message() | self.merging.message()
        request = build_request(self.found, fields)
        self._check_roi_stays(request)
        return request

    def roots(self) -> list[Path]:
        """The local roots to allow: the folders of the results and of every file in the options."""
        return [self.out.resolve(), *self.found.roots, *self.model.folders()]

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

        stems = request.file_names().values()
        if roi.name in {f"{stem}.{ending}" for stem in stems for ending in FILE_ENDINGS.values()}:
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
