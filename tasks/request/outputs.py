"""The outputs of a request: where its features are published."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from tasks.request.field_types import Text, WholeNumber
from tasks.request.locations import Bucket, LocalPath, Prefix
from tasks.request.message_object import MessageObject

LEGACY = ("outputBucket", "outputPrefix")


def _stream_name(text: str) -> str:
    allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
    if not 1 <= len(text) <= 128 or set(text) - allowed:
        raise ValueError(
            "is not the name of a Kinesis stream; give 1 to 128 letters, digits, and _ . -"
        )
    return text


class FeatureFormat(StrEnum):
    """A file format for features."""

    GEOJSON = "geojson"
    GEOJSONL = "geojsonl"
    PARQUET = "parquet"
    GPKG = "gpkg"
    FLATGEOBUF = "flatgeobuf"
    PMTILES = "pmtiles"
    COCO = "coco"
    CSV = "csv"
    HTML = "html"
    STAC = "stac"


def _in_order(formats: tuple[FeatureFormat, ...]) -> tuple[FeatureFormat, ...]:
    """Each format once, so that the same files are the same request."""
    return tuple(each for each in FeatureFormat if each in formats)


Formats = Annotated[
    tuple[FeatureFormat, ...],
    AfterValidator(_in_order),
    Field(
        description="File formats of the features; the ledger of tiles is always written.",
        examples=[["parquet"]],
    ),
]
_DEFAULT_FORMATS = (FeatureFormat.GEOJSON, FeatureFormat.PARQUET)


class S3Output(MessageObject):
    """Files in an S3 bucket."""

    type: Literal["S3"] = Field(description="Kind of output.", examples=["S3"])
    bucket: Bucket = Field(description="Name of the bucket.", examples=["results"])
    prefix: Prefix = Field(
        "",
        description="Folder within the bucket, with or without a trailing slash; empty for the "
        "bucket's root.",
        examples=["harbour/2024-06-01/"],
    )
    formats: Formats = _DEFAULT_FORMATS


class KinesisOutput(MessageObject):
    """Features as records of a Kinesis stream."""

    type: Literal["Kinesis"] = Field(description="Kind of output.", examples=["Kinesis"])
    stream: Annotated[Text, AfterValidator(_stream_name)] = Field(
        description="Name of the stream.", examples=["features"]
    )
    batch_size: WholeNumber = Field(
        500,
        ge=1,
        le=10_000,
        description="Records written together; Kinesis takes up to 500 in one call.",
        examples=[500],
    )


class FileOutput(MessageObject):
    """Files in a folder of the local file system."""

    type: Literal["File"] = Field(description="Kind of output.", examples=["File"])
    path: LocalPath = Field(
        description="Absolute path of a folder under a root that the operator allows.",
        examples=["/data/results"],
    )
    formats: Formats = _DEFAULT_FORMATS


Output = Annotated[S3Output | KinesisOutput | FileOutput, Field(discriminator="type")]


def from_legacy(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message with `outputBucket` and `outputPrefix` replaced by an S3 output in `outputs`.

    If the message has `outputs` too, they are used and the older pair is dropped, as in OSML.

    Raises:
        ValueError: Only one of the pair is given.
    """
    if not set(LEGACY) & set(message):
        return message
    rest = {name: value for name, value in message.items() if name not in LEGACY}
    bucket, prefix = (message.get(name) or None for name in LEGACY)
    if rest.get("outputs") or (bucket is None and prefix is None):
        return rest
    if bucket is None or prefix is None:
        given, absent = LEGACY if prefix is None else LEGACY[::-1]
        raise ValueError(
            f"{given}: {message[given]!r} came without {absent}; give both, or outputs"
        )
    return rest | {"outputs": [{"type": "S3", "bucket": bucket, "prefix": prefix}]}
