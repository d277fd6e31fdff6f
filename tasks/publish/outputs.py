"""The places that a request names for its results, and whether they can take them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from tasks.aws.clients import client
from tasks.errors import RequestError
from tasks.publish import kinesis
from tasks.storage import objects
from tasks.storage.roots import within


class S3Output(Protocol):
    """A bucket, and the prefix of the keys in it."""

    @property
    def type(self) -> Literal["S3"]:
        """The tag."""

    @property
    def bucket(self) -> str:
        """Name of the bucket."""

    @property
    def prefix(self) -> str:
        """What every key begins with; may be empty or end with a slash."""


class FileOutput(Protocol):
    """A folder of this machine."""

    @property
    def type(self) -> Literal["File"]:
        """The tag."""

    @property
    def path(self) -> str | Path:
        """The folder; made when missing."""


class KinesisOutput(Protocol):
    """A stream of features."""

    @property
    def type(self) -> Literal["Kinesis"]:
        """The tag."""

    @property
    def stream(self) -> str:
        """Name of the stream."""

    @property
    def batch_size(self) -> int | None:
        """Records of a call at most, or None for what Kinesis takes."""


Output = S3Output | FileOutput | KinesisOutput


def check_outputs(outputs: Sequence[Output], roots: Sequence[Path]) -> None:
    """Find out before any work is done that every output can be written.

    Args:
        outputs: Of the request.
        roots: Folders that the operator allows local outputs in.

    Raises:
        RequestError: One of them cannot; says which and what to do.
    """
    for index, output in enumerate(outputs):
        where = f"outputs[{index}]"
        if output.type == "S3":
            _check_bucket(output.bucket, where)
        elif output.type == "Kinesis":
            _check_stream(output.stream, where)
        else:
            _check_folder(allowed(output.path, roots), where)


def location(output: S3Output | FileOutput, name: str, roots: Sequence[Path]) -> str:
    """URI of a file of an output.

    Raises:
        RequestError: It would lie outside the folders that the operator allows.
    """
    if output.type == "S3":
        return objects.join(f"s3://{output.bucket}", output.prefix, name)
    return str(allowed(Path(output.path) / name, roots))


def allowed(path: str | Path, roots: Sequence[Path]) -> Path:
    """A local path with its links and `..` resolved.

    Raises:
        RequestError: It lies outside every root.
    """
    if resolved := within(path, roots):
        return resolved
    named = ", ".join(map(str, roots)) or "none"
    raise RequestError(
        f"Output path {path} is outside the folders that the operator allows ({named}): "
        "name a folder inside them, or have SWATH_LOCAL_ROOTS list it."
    )


def _check_bucket(bucket: str, where: str) -> None:
    try:
        client("s3").head_bucket(Bucket=bucket)
    except (ClientError, BotoCoreError) as error:
        raise RequestError(
            f"{where}: bucket {bucket!r} cannot be reached ({error}): create it, correct its name, "
            "or grant this process s3:ListBucket and s3:PutObject on it."
        ) from error


def _check_stream(stream: str, where: str) -> None:
    try:
        state = kinesis.state(stream)
    except (ClientError, BotoCoreError) as error:
        raise RequestError(
            f"{where}: stream {stream!r} cannot be reached ({error}): create it, correct its name, "
            "or grant this process kinesis:DescribeStream and kinesis:PutRecords on it."
        ) from error
    if state not in {"ACTIVE", "UPDATING"}:
        raise RequestError(f"{where}: stream {stream!r} is {state}: wait until it is ACTIVE.")


def _check_folder(folder: Path, where: str) -> None:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise RequestError(
            f"{where}: folder {folder} cannot be made or written, because {there} is not a folder "
            "that this process may write in: name another one, or change its permissions."
        )
