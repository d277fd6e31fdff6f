"""The request message: features of one or more images, by one model."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from tasks.errors import RequestError
from tasks.request.field_types import (
    Band,
    JobId,
    Name,
    Number,
    ParameterName,
    ParameterValue,
    Priority,
    Properties,
    RoleArn,
    Tags,
    WholeNumber,
    owner_of,
)
from tasks.request.image_alpha import ImageAlpha
from tasks.request.image_scaling import ImageScaling
from tasks.request.locations import ImageUrl, StacItem, file_names
from tasks.request.message_object import MessageObject
from tasks.request.outputs import LEGACY, Output, from_legacy
from tasks.request.post_processing import Algorithm, AlgorithmType, PostProcessing
from tasks.request.processor import ImageProcessor, check_secrets
from tasks.request.raster_output import RasterOutput
from tasks.request.region_of_interest import RegionOfInterestWkt
from tasks.request.strict_json import parse_object
from tasks.request.tile_encoding import TileCompression, TileFormat, check_pair
from tasks.request.tile_output import TileOutput
from tasks.request.validation_errors import problem_lines

_NOT_THE_WORK = {"priority", "tags"}  # fields that change nothing of what is done or published


def _unique(urls: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(urls)) < len(urls):
        repeated = Counter(urls).most_common(1)[0][0]
        raise ValueError(f"holds {repeated!r} twice; give every image once")
    return urls


@lru_cache(maxsize=4)  # every image of a job asks for its name
def _file_names(urls: tuple[str, ...]) -> Mapping[str, str]:
    return MappingProxyType(file_names(urls))


class Request(MessageObject):
    """A request for features of one or more images, by one model."""

    job_id: JobId = Field(
        description="Identifier of the job.",
        examples=["job-a08f5011"],
    )
    job_name: Name | None = Field(
        None, description="Human-readable name of the job.", examples=["Harbour, June"]
    )
    image_urls: Annotated[tuple[ImageUrl, ...], AfterValidator(_unique)] = Field(
        min_length=1,
        description="Images to process: s3://bucket/key, or an absolute path under a root that the "
        "operator allows.",
        examples=[["s3://images/harbour.tif"]],
    )
    outputs: tuple[Output, ...] = Field(
        min_length=1,
        description="Where features are published. The older outputBucket and outputPrefix are "
        "accepted instead.",
        examples=[[{"type": "S3", "bucket": "results", "prefix": "harbour/"}]],
    )
    image_processor: ImageProcessor = Field(
        description="Model that is called on every tile.",
        examples=[{"name": "ships", "type": "SM_ENDPOINT"}],
    )
    image_processor_parameters: dict[ParameterName, ParameterValue] = Field(
        {},
        description="Arguments of SageMaker's InvokeEndpoint, headers over HTTP, parameters of a "
        "built-in model, or the location of the `description` of an ONNX or OIP model: text and "
        "numbers by name. A header may refer to a secret instead of holding it: "
        "{{ prefect.blocks.secret.NAME.KEY }}, or {{ }} around the ARN of a secret in AWS Secrets "
        "Manager.",
        examples=[{"TargetVariant": "AllTraffic"}],
    )
    tile_size: WholeNumber = Field(
        1024,
        alias="imageProcessorTileSize",
        ge=16,
        le=16_384,
        description="Side of a tile in pixels; tiles are square. If it is left out, the size of "
        "the input of a model that has a description or describes itself.",
        examples=[1024],
    )
    tile_overlap: WholeNumber = Field(
        50,
        alias="imageProcessorTileOverlap",
        ge=0,
        validate_default=True,
        description="Minimum overlap of neighbouring tiles in pixels; widened so that every tile "
        "is full.",
        examples=[50],
    )
    tile_format: TileFormat = Field(
        TileFormat.NITF,
        alias="imageProcessorTileFormat",
        description="File format in which tiles are sent.",
        examples=["GTIFF"],
    )
    tile_compression: TileCompression = Field(
        TileCompression.NONE,
        alias="imageProcessorTileCompression",
        validate_default=True,
        description="Compression of a tile: NONE, JPEG or J2K in NITF; NONE, LZW, ZSTD or JPEG in "
        "GTIFF; NONE in the others.",
        examples=["NONE"],
    )
    image_read_role: RoleArn | None = Field(
        None,
        description="ARN of the IAM role to assume for reading the images.",
        examples=["arn:aws:iam::123456789012:role/Read"],
    )
    image_nodata: Number | None = Field(
        None,
        description="Value of pixels without data, in place of the one that the images declare: "
        "tiles without any other pixel are not sent. For undeclared black borders, 0.",
        examples=[0],
    )
    image_alpha: ImageAlpha = Field(
        ImageAlpha.MASK,
        description="What an alpha band is: `mask` decides which pixels hold data; `ignore` takes "
        "it for a band as any other, as near infrared that is declared alpha.",
        examples=["ignore"],
    )
    image_bands: tuple[Band, ...] = Field(
        (),
        description="Bands that the model gets, in its order: numbers, from 1, or names (red, nir, "
        "…); all unless given. They take the place of those that a description names.",
        examples=[[4, 3, 2]],
    )
    image_scaling: ImageScaling | None = Field(
        None,
        description="How the values of pixels are scaled before a tile is sent; not at all unless "
        "given.",
        examples=[{"type": "percentile", "lower": 2, "upper": 98}],
    )
    image_resolution: Number | None = Field(
        None,
        gt=0,
        description="Metres a pixel at which tiles are read and sent, as the model was trained; "
        "the image's own unless given. Tiles of imageProcessorTileSize pixels, and their overlap, "
        "are of that size; results are in pixels of the image.",
        examples=[0.5],
    )
    image_fill: Number | None = Field(
        None,
        description="What pixels without data hold in a tile that is sent, before scaling; 0 "
        "unless given.",
        examples=[0],
    )
    image_stac_items: dict[ImageUrl, StacItem] = Field(
        {},
        description="The STAC Item of each image that has one, by the image's URL: an https:// or "
        "s3:// URL or a path, which the format `stac` links to. It is not read.",
        examples=[{"s3://images/harbour.tif": "https://stac.example.org/items/harbour"}],
    )
    region_of_interest: RegionOfInterestWkt | None = Field(
        None,
        description="Part of the images to process: a polygon or multipolygon in WKT, longitude "
        "first (EPSG:4326); the whole image unless given.",
        examples=["POLYGON ((4.0 51.9, 4.2 51.9, 4.2 52.0, 4.0 52.0, 4.0 51.9))"],
    )
    raster_output: RasterOutput | None = Field(
        None,
        description="For a model that answers with a raster of the tile's size in place of "
        "features: what it holds, how overlapping tiles blend, and what is published. A model that "
        "has a description says so itself.",
        examples=[{"values": "probabilities", "classes": [{"value": 0, "name": "clear"}]}],
    )
    tile_output: TileOutput | None = Field(
        None,
        description="For a model that answers about each tile as a whole, with its class or an "
        "embedding: one feature a tile, with the tile's footprint, which is never merged with "
        "another. A model that has a description says so itself.",
        examples=[{"values": "logits", "classes": ["harbour", "forest"]}],
    )
    priority: Priority = Field(
        0,
        description="Which of the jobs that wait begins first, and which gets more of a model's "
        "calls: the one with the higher number.",
        examples=[10],
    )
    tags: Tags = Field(
        {},
        description="Whose job it is and who pays for it, as text by name. Jobs of one `owner` "
        "share what owners have in common; costs are shown by tag. No feature has them.",
        examples=[{"owner": "maritime", "costCentre": "4711"}],
    )
    max_tiles: WholeNumber | None = Field(
        None,
        ge=1,
        description="Tiles that the model is asked for, at the most, over all images of the job. "
        "An image with more is refused; a job that reaches it stops with what it has.",
        examples=[20000],
    )
    max_cost: Number | None = Field(
        None,
        gt=0,
        description="What the job may cost, at the most, in the currency of the operator's prices. "
        "An image that would cost more is refused; a job that reaches it stops with what it has.",
        examples=[25.0],
    )
    feature_properties: tuple[Properties, ...] = Field(
        (),
        description="Objects that are merged into the properties of every feature.",
        examples=[[{"campaign": "june"}]],
    )
    post_processing: tuple[PostProcessing, ...] = Field(
        (PostProcessing(),),
        max_length=1,
        description="How duplicate features are merged into one; NMS at an IoU of 0.75 unless "
        "given, or as suits the model: DISSOLVE for masks, an IoU of 0.3 for oriented boxes.",
        examples=[[{"algorithm": {"algorithmType": "NMS", "iouThreshold": 0.5}}]],
    )

    @model_validator(mode="before")
    @classmethod
    def _accept_legacy_output(cls, data: Any) -> Any:  # noqa: ANN401 - any JSON value
        return from_legacy(data) if isinstance(data, Mapping) else data

    @field_validator("image_processor_parameters")
    @classmethod
    def _check_secrets(cls, parameters: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if "image_processor" in info.data:
            check_secrets(parameters, info.data["image_processor"].type)
        return parameters

    @field_validator("image_stac_items")
    @classmethod
    def _check_images(cls, items: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        for url in items:
            if url not in info.data.get("image_urls", items):
                raise ValueError(f"names {url!r}, which imageUrls does not; give one of these")
        return items

    @field_validator("tile_overlap")
    @classmethod
    def _check_overlap(cls, overlap: int, info: ValidationInfo) -> int:
        size = info.data.get("tile_size")
        if size is not None and overlap >= size:
            raise ValueError(
                f"is not below imageProcessorTileSize {size}; give 0 to {size - 1} pixels"
            )
        return overlap

    @field_validator("tile_compression")
    @classmethod
    def _check_compression(
        cls, compression: TileCompression, info: ValidationInfo
    ) -> TileCompression:
        if "tile_format" in info.data:
            check_pair(info.data["tile_format"], compression)
        return compression

    @model_validator(mode="after")
    def _check_one_output(self) -> Self:
        if self.raster_output is not None and self.tile_output is not None:
            raise ValueError(
                "tileOutput: is for a model that answers about whole tiles, and rasterOutput for "
                "one that answers with pixels; give one of them"
            )
        return self

    @model_validator(mode="after")
    def _check_raster_has_no_merge(self) -> Self:
        if self.raster_output is None:
            return self
        default = Algorithm()
        for name, field in Algorithm.model_fields.items():
            if getattr(self.algorithm, name) != getattr(default, name):
                raise ValueError(
                    f"postProcessing[0].algorithm.{field.alias}: is for features, and the model "
                    "answers with pixels; leave it out"
                )
        return self

    @classmethod
    def parse(cls, body: str | bytes) -> Self:
        """Parse and validate the text of a message.

        Raises:
            RequestError: The message is not valid: a line for each problem, with the field, the
                value and the remedy.
        """
        try:
            return cls.model_validate(parse_object(body))
        except ValidationError as error:
            raise RequestError(describe_errors(error)) from None

    @property
    def algorithm(self) -> Algorithm:
        """How duplicates are removed; answers about whole tiles have none."""
        algorithm = self.post_processing[0].algorithm
        if self.tile_output is None:
            return algorithm
        return algorithm.model_copy(update={"algorithm_type": AlgorithmType.NONE})

    @property
    def owner(self) -> str:
        """Whose job it is; empty if nobody is named."""
        return owner_of(self.tags) or ""

    def identity(self, url: str) -> str:
        """SHA-256 digest (hex) of the request for one image: the same only for the same work.

        It does not depend on the order of the message's fields, nor on whether defaults are given.
        """
        content = self.model_dump(mode="json", exclude_defaults=True, exclude=_NOT_THE_WORK)
        items = content.pop("imageStacItems", {})
        if url in items:  # those of other images change nothing of this one
            content["imageStacItems"] = {url: items[url]}
        text = json.dumps([url, content], sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def file_names(self) -> Mapping[str, str]:
        """The file name of each image's results without their extensions, by image URL.

        It is the image's own file name, numbered where several images of the job have the same.
        """
        return _file_names(self.image_urls)


def describe_errors(error: ValidationError) -> str:
    """A validation error of a request as text: a line for each problem (field, value, remedy)."""
    return "\n".join(problem_lines(error, Request, legacy=LEGACY))
