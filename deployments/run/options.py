"""The options of `swath run` and `swath plan`, and the request that they make."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from tasks.errors import ImageError, RequestError

if TYPE_CHECKING:
    from tasks.request import Request

_WITH_FILES = {"ONNX", "OIP_ENDPOINT"}  # endpoints that read a model or description from a file


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


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of `swath run`.

    Attributes:
        image: Path or s3:// URL.
        model: The model's name, URL, or ONNX file.
        out: Folder for the results.
        type: Kind of endpoint; derived from the model if None.
        parameters: Parameters of the model, each NAME=VALUE.
        tiling: Options for reading the image and cutting it into tiles.
        job_id: Identifier of the job; else a random one.
    """

    image: str
    model: str
    out: Path
    type: str | None = None
    parameters: tuple[str, ...] = ()
    tiling: TilingOptions = TilingOptions()
    job_id: str = field(default_factory=lambda: f"run-{token_hex(4)}")

    def request(self) -> Request:
        """The request for the image.

        Raises:
            SwathError: An option has an invalid value.
        """
        fields = {
            "jobId": self.job_id,
            "outputs": [{"type": "File", "path": str(self.out.resolve())}],
            "imageProcessor": {"name": self._location(self.model), "type": self._type},
            "imageProcessorParameters": self._parameters(),
        }
        return build_request(self.image, self.tiling, fields)

    def roots(self) -> list[Path]:
        """The local roots to allow: the folders of the results and of every file in the options."""
        named = [self.image, self._location(self.model), *self._parameters().values()]
        files = [Path(name) for name in named if "://" not in name and Path(name).is_file()]
        return [self.out.resolve(), *(absolute_path(str(file)).parent for file in files)]

    def _parameters(self) -> dict[str, str]:
        pairs = dict(_name_and_value(option) for option in self.parameters)
        if "description" in pairs:
            pairs["description"] = self._location(pairs["description"])
        return pairs

    @property
    def _type(self) -> str:
        return self.type or kind_of(self.model)

    def _location(self, name: str) -> str:
        """A model file as an absolute path; any other name unchanged."""
        is_file = self._type in _WITH_FILES and "://" not in name
        return str(absolute_path(name)) if is_file else name


def kind_of(model: str) -> str:
    """The kind of endpoint that a model's name suggests."""
    if model.startswith(("http://", "https://")):
        return "OIP_ENDPOINT" if "/v2/models/" in model else "HTTP_ENDPOINT"
    return "ONNX" if model.lower().endswith(".onnx") else "BUILTIN"


def _name_and_value(option: str) -> tuple[str, str]:
    name, equals, value = option.partition("=")
    if not name or not equals:
        raise RequestError(f"--parameter: {option!r} is not NAME=VALUE.")
    return name, value


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
