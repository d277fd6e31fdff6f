"""The request for an object that arrived: the nearest template, with the object as its image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from pydantic import TypeAdapter, ValidationError

from tasks.aws.clients import client
from tasks.errors import PublishError, RequestError
from tasks.queue.arrivals import Arrival
from tasks.request import FileOutput, Output, Request, S3Output, describe_errors
from tasks.request.locations import ImageUrl
from tasks.request.strict_json import parse_object

_NAME = "request.json"
_LARGEST = 1 << 20  # bytes of a template; SQS allows no larger request either
_ABSENT = {"NoSuchKey", "NoSuchBucket"}
_URL: TypeAdapter[str] = TypeAdapter(ImageUrl)


def request_for(arrival: Arrival) -> Request:
    """Make the request for an object from the nearest template.

    The template is the object `request.json` in the image's folder or the nearest folder above it.
    It is a request without `imageUrls`; its `jobId`, if any, becomes the first part of the job's.
    The path from the template's folder to the image's is appended to each output's prefix or path,
    so that images of the same name in different folders have separate results.

    Args:
        arrival: A new image.

    Raises:
        RequestError: There is no template, it is not a valid request, or the object's URL cannot be
            in one. The message has the URL of the object or the template, and the field.
        PublishError: S3 does not return the template; it may the next time.
    """
    _check_url(arrival.url)
    folder, text = _nearest(arrival)
    uri = _uri(arrival.bucket, folder)
    template = _read(uri, text)
    prefix = template.pop("jobId", None) or ""
    fields = {"jobId": prefix or "template", "imageUrls": [arrival.url]}
    asked = _request(uri, template | fields)
    below = arrival.folder[len(folder) :].rstrip("/")
    own = {
        "jobId": arrival.job_id(prefix),
        "outputs": [_below(output, below) for output in asked.outputs],
    }
    return _request(f"{arrival.url}, by {uri}", asked.model_dump(mode="json") | own)


def _check_url(url: str) -> None:
    """Refuse an object whose URL no request may have, before its key is used."""
    try:
        _URL.validate_python(url)
    except ValidationError as error:
        why = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise RequestError(f"{url!r} {why}.") from None


def _nearest(arrival: Arrival) -> tuple[str, bytes]:
    """The folder of the nearest template, and the template's text."""
    for folder in _folders(arrival.folder):
        text = _get(arrival.bucket, folder)
        if text is not None:
            return folder, text
    looked = ", ".join(_uri(arrival.bucket, folder) for folder in _folders(arrival.folder))
    raise RequestError(
        f"{arrival.url} arrived, and there is no template for it: looked for {looked}; put a "
        "request without imageUrls there, and send this message again."
    )


def _folders(folder: str) -> Iterator[str]:
    """A folder and those above it, each with its last slash; empty for the top of the bucket."""
    while folder:
        yield folder
        folder = folder[: folder[:-1].rfind("/") + 1]
    yield ""


def _get(bucket: str, folder: str) -> bytes | None:
    """The text of a folder's template; None if it has none."""
    uri = _uri(bucket, folder)
    try:
        found = client("s3").get_object(Bucket=bucket, Key=folder + _NAME)
        with found["Body"] as stream:
            if found["ContentLength"] > _LARGEST:
                raise RequestError(
                    f"{uri}: has {found['ContentLength']} bytes, more than the {_LARGEST} that a "
                    "template may have; shorten it."
                )
            return bytes(stream.read())
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in _ABSENT:
            return None
        raise PublishError(
            f"Cannot read {uri} ({code}). Grant the sensor s3:GetObject on it, and s3:ListBucket "
            "on its bucket, without which S3 does not report that an object does not exist."
        ) from error
    except BotoCoreError as error:
        raise PublishError(f"Cannot read {uri}: {error}. Check the connection to S3.") from error


def _read(uri: str, text: bytes) -> dict[str, Any]:
    try:
        template = parse_object(text)
    except RequestError as error:
        raise RequestError(f"{uri}: {str(error).removeprefix('message: ')}") from None
    if template.get("imageUrls"):
        raise RequestError(f"{uri}: imageUrls: the image is the object that arrives; remove it.")
    return template


def _request(source: str, fields: Mapping[str, Any]) -> Request:
    try:
        return Request.model_validate(fields)
    except ValidationError as error:
        lines = describe_errors(error).splitlines()
        raise RequestError("\n".join(f"{source}: {line}" for line in lines)) from None


def _below(output: Output, folder: str) -> dict[str, Any]:
    """The fields of an output, with a folder appended to its prefix or path."""
    fields = output.model_dump(mode="json")
    match output:
        case S3Output(prefix=place):
            fields["prefix"] = _join(place, folder)
        case FileOutput(path=place):
            fields["path"] = _join(place, folder)
    return fields


def _join(place: str, folder: str) -> str:
    return f"{place.rstrip('/')}/{folder}" if place and folder else place or folder


def _uri(bucket: str, folder: str) -> str:
    return f"s3://{bucket}/{folder}{_NAME}"
