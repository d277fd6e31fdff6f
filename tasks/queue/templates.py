"""The request for an object that arrived: the nearest template, completed with the object."""

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
_LARGEST = 1 << 20  # bytes of a template; the limit of SQS for a request, too
_ABSENT = {"NoSuchKey", "NoSuchBucket"}
_URL: TypeAdapter[str] = TypeAdapter(ImageUrl)


def request_for(arrival: Arrival) -> Request:
    """Make the request for an object from the nearest template.

    The template is the object `request.json` in the image's folder or the nearest folder above it.
    It is a request without `imageUrls`; its `jobId`, if any, becomes the first part of the job id.
    The path from the template's folder to the image's is appended to each output's prefix or path,
    so that images of the same name in different folders have separate results.

    Args:
        arrival: A new image.

    Raises:
        RequestError: There is no template, it is not a valid request, or no request may contain the
            object's URL. The message has the URL of the object or the template, and the field.
        PublishError: S3 does not return the template; a later attempt may succeed.
    """
    _check_url(arrival.url)
    folder, text = _nearest(arrival)
    uri = _uri(arrival.bucket, folder)
    template = _parse(uri, text)
    prefix = template.pop("jobId", None) or ""
    fields: dict[str, Any] = {"jobId": prefix or "template", "imageUrls": [arrival.url]}
    request = _request(uri, template | fields)
    subfolder = arrival.folder[len(folder) :].rstrip("/")
    fields = {
        "jobId": arrival.job_id(prefix),
        "outputs": [_in_subfolder(output, subfolder) for output in request.outputs],
    }
    given = request.model_dump(mode="json", exclude_unset=True)
    return _request(f"{arrival.url}, by {uri}", given | fields)


def _check_url(url: str) -> None:
    """Refuse an object whose URL is not valid in a request, before its key is used."""
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
    """A folder and all above it, each with its trailing slash; last the bucket's root, empty."""
    while folder:
        yield folder
        folder = folder[: folder[:-1].rfind("/") + 1]
    yield ""


def _get(bucket: str, folder: str) -> bytes | None:
    """The text of a folder's template; None if it does not exist."""
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


def _parse(uri: str, text: bytes) -> dict[str, Any]:
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


def _in_subfolder(output: Output, subfolder: str) -> dict[str, Any]:
    """The fields of an output, with a subfolder appended to its prefix or path."""
    fields = output.model_dump(mode="json")
    match output:
        case S3Output(prefix=folder):
            fields["prefix"] = _join(folder, subfolder)
        case FileOutput(path=folder):
            fields["path"] = _join(folder, subfolder)
    return fields


def _join(folder: str, subfolder: str) -> str:
    if folder and subfolder:
        return f"{folder.rstrip('/')}/{subfolder}"
    return folder or subfolder


def _uri(bucket: str, folder: str) -> str:
    return f"s3://{bucket}/{folder}{_NAME}"
