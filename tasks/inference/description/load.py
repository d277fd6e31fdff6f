"""Loads a model's files from S3, or from a folder that the operator allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import ValidationError

from tasks.aws.clients import client
from tasks.errors import NoSuchFileError, RequestError, UnsupportedTaskError
from tasks.inference.description.description import Description
from tasks.inference.description.mlm_tasks import RUN, listed
from tasks.inference.description.placeholders import find_placeholders
from tasks.inference.description.properties import Properties
from tasks.request.locations import s3_object
from tasks.request.validation_errors import problem_lines
from tasks.storage.objects import split_s3
from tasks.storage.roots import within

DESCRIPTION_PARAMETER = "description"
"""The entry of `imageProcessorParameters` that names the description."""

_MAX_DESCRIPTION = 4 << 20  # bytes; the 365 classes of Objects365 take 20 KB
_NOT_FOUND = {"404", "NoSuchKey", "NoSuchBucket"}
_WRITE_A_DESCRIPTION = (
    "write the model's description there, a JSON object with mlm:name, mlm:input, mlm:output and "
    "swath:detector, swath:raster or swath:tile (swath models describe MODEL.onnx begins it), or "
    f"name it in imageProcessorParameters.{DESCRIPTION_PARAMETER}"
)


@dataclass(frozen=True)
class ModelFile:
    """One version of a file.

    Attributes:
        uri: `s3://bucket/key`, or the absolute path with symbolic links resolved.
        role: IAM role to assume for S3; None for the process's own identity.
        version: The ETag of an object, or the modification time and size of a file: it changes
            with the content.
        size: Size in bytes.
    """

    uri: str
    role: str | None
    version: str
    size: int

    def read(self) -> bytes:
        """The whole content.

        Raises:
            RequestError: The file cannot be read, or the object in S3 has changed.
        """
        try:
            if not self.uri.startswith("s3://"):
                return Path(self.uri).read_bytes()
            bucket, key = split_s3(self.uri)
            answer = client("s3", self.role).get_object(
                Bucket=bucket, Key=key, IfMatch=self.version
            )
            with answer["Body"] as stream:
                return bytes(stream.read())
        except (OSError, ClientError, BotoCoreError) as error:
            raise _unreadable(self.uri, error) from error


def load_description(uri: str, roots: Sequence[Path], role: str | None) -> Description:
    """Read and validate the description of a model.

    Args:
        uri: `s3://bucket/key`, or a path below one of `roots`; a STAC Item, or its properties.
        roots: Folders that the operator allowed.
        role: IAM role to assume for S3; None for the process's own identity.

    Raises:
        NoSuchFileError: The file does not exist.
        RequestError: It is not valid, with a line for each problem.
    """
    file = find_file(uri, roots, role, max_bytes=_MAX_DESCRIPTION, if_missing=_WRITE_A_DESCRIPTION)
    try:
        document = orjson.loads(file.read())
    except orjson.JSONDecodeError as error:
        raise RequestError(f"{uri}: is not JSON ({error}); correct it.") from error
    if isinstance(document, dict) and isinstance(document.get("properties"), dict):
        document = document["properties"]
    _refuse_other_tasks(uri, document)
    _refuse_drafts(uri, document)
    return description_of(uri, document)


def description_of(uri: str, document: object) -> Description:
    """Validate a description.

    Args:
        uri: Where it is from, for errors.
        document: The properties of a STAC Item, JSON.

    Raises:
        RequestError: It is not valid, with a line for each problem.
    """
    try:
        return Description(uri, Properties.model_validate(document))
    except ValidationError as error:
        lines = problem_lines(error, Properties)
        raise RequestError("\n".join(f"{uri}: {line}" for line in lines)) from None


def find_file(
    uri: str, roots: Sequence[Path], role: str | None, *, max_bytes: int, if_missing: str = ""
) -> ModelFile:
    """Look a file up, without reading it.

    Args:
        uri: `s3://bucket/key`, or a path below one of `roots`.
        roots: Folders that the operator allowed; symbolic links are resolved before the check.
        role: IAM role to assume for S3.
        max_bytes: Maximum size of the file.
        if_missing: The remedy for a missing file, for the error; "" for the usual one.

    Raises:
        NoSuchFileError: The file does not exist.
        RequestError: It is outside the roots, is too large, or may not be read.
    """
    try:
        file = _find_in_s3(uri, role) if uri.startswith("s3://") else _find_locally(uri, roots)
    except FileNotFoundError:
        remedy = if_missing or "check the name"
        raise NoSuchFileError(f"{uri}: there is no such file; {remedy}.") from None
    except ClientError as error:
        if error.response["Error"]["Code"] in _NOT_FOUND:
            remedy = if_missing or "check the name"
            raise NoSuchFileError(f"{uri}: there is no such object; {remedy}.") from error
        raise _unreadable(uri, error) from error
    except (OSError, RuntimeError, BotoCoreError) as error:
        raise _unreadable(uri, error) from error
    except ValueError as error:
        raise RequestError(f"{uri!r} {error}.") from None
    if file.size > max_bytes:
        raise RequestError(
            f"{uri}: has {file.size} bytes, more than the {max_bytes} allowed; give a smaller one."
        )
    return file


def _refuse_other_tasks(uri: str, document: object) -> None:
    """Refuse the description of a model for tasks that Swath runs none for."""
    tasks = document.get("mlm:tasks") if isinstance(document, dict) else None
    if not isinstance(tasks, list) or not tasks or not RUN.isdisjoint(map(str, tasks)):
        return
    raise UnsupportedTaskError(
        f"{uri}: mlm:tasks: is {', '.join(map(str, tasks))}, and Swath runs models for "
        f"{listed(RUN)}; serve this model over HTTP and answer with polygons or a raster "
        "(HTTP_ENDPOINT), or give another model."
    )


def _refuse_drafts(uri: str, document: object) -> None:
    """Refuse a description that `swath models describe` drafted and nobody completed."""
    left = list(find_placeholders(document))
    if left:
        field, wanted = left[0]
        more = f", as are {len(left) - 1} more" if len(left) > 1 else ""
        raise RequestError(f"{uri}: {field}: is still to be filled in{more}: {wanted}.")


def _find_in_s3(uri: str, role: str | None) -> ModelFile:
    bucket, key = split_s3(s3_object(uri))
    head = client("s3", role).head_object(Bucket=bucket, Key=key)
    return ModelFile(uri, role, head["ETag"], head["ContentLength"])


def _find_locally(path: str, roots: Sequence[Path]) -> ModelFile:
    file = within(path, roots)
    if "://" in path or file is None:
        allowed = ", ".join(map(str, roots)) or "the list is empty"
        raise ValueError(
            f"is below none of the local roots ({allowed}): add its folder to SWATH_LOCAL_ROOTS, "
            "or give s3://bucket/key"
        )
    if file.is_dir():
        raise ValueError("is a folder: give the path of one file in it")
    if file.exists() and not file.is_file():
        raise ValueError("is not a file: check the path")
    stat = file.stat()
    return ModelFile(str(file), None, f"{stat.st_mtime_ns}-{stat.st_size}", stat.st_size)


def _unreadable(uri: str, error: Exception) -> RequestError:
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return RequestError(
        f"{uri}: cannot be read ({reason}): check its name and permissions (s3:GetObject and "
        "imageProcessor.assumedRole in S3)."
    )
