"""The request for an object that arrived: the nearest template, with the object filled in."""

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
_LARGEST = 1 << 20  # bytes; SQS takes no larger request either
_ABSENT = {"NoSuchKey", "NoSuchBucket"}
_URL: TypeAdapter[str] = TypeAdapter(ImageUrl)


def request_for(arrival: Arrival) -> Request:
    """The request that the nearest template asks for about an object.

    The template is the object `request.json` in the folder of the image or the nearest one above
    it: a request without `imageUrls`, whose `jobId`, if there is one, begins the job's. The image's
    folder, as seen from the template's, goes below each output's prefix or path, so that results of
    images of one name in different folders keep apart.

    Args:
        arrival: A new image.

    Raises:
        RequestError: There is no template, or it is not a request, or the object cannot be an
            image of one; with the object's URL or the template's, and the field.
        PublishError: S3 does not give the template; it may the next time.
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
    """Refuse an object that no request could name, before its key leads anywhere."""
    try:
        _URL.validate_python(url)
    except ValidationError as error:
        why = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise RequestError(f"{url!r} {why}.") from None


def _nearest(arrival: Arrival) -> tuple[str, bytes]:
    """The folder of the nearest template, and its text."""
    for folder in _folders(arrival.folder):
        text = _get(arrival.bucket, folder)
        if text is not None:
            return folder, text
    looked = ", ".join(_uri(arrival.bucket, folder) for folder in _folders(arrival.folder))
    raise RequestError(
        f"{arrival.url} arrived, and no template says what is asked for: looked for {looked}; put "
        "a request without imageUrls there, and send this message again."
    )


def _folders(folder: str) -> Iterator[str]:
    """A folder and those above it, each with its closing slash; the bucket's top is empty."""
    while folder:
        yield folder
        folder = folder[: folder[:-1].rfind("/") + 1]
    yield ""


def _get(bucket: str, folder: str) -> bytes | None:
    """The text of a folder's template; None where it has none."""
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
            "on its bucket, without which S3 does not say that there is none."
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
    """An output, in a folder of its own below where it was."""
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
