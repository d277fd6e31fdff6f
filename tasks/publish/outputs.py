"""The outputs that a request names: whether they can be written, and the URIs of their files."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from tasks.aws.clients import client
from tasks.errors import RequestError
from tasks.publish.formats import FORMATS
from tasks.publish.kinesis import stream_status
from tasks.request import FeatureFormat, FileOutput, KinesisOutput, Output, RasterOutput, S3Output
from tasks.storage import objects
from tasks.storage.roots import within


def check_outputs(
    outputs: Sequence[Output],
    roots: Sequence[Path],
    raster: RasterOutput | None = None,
    *,
    georeferenced: bool = True,
) -> None:
    """Check before any tile is sent to the model that every output can be written.

    Args:
        outputs: The outputs of the request.
        roots: Folders that the operator allows local outputs in.
        raster: What the model answers with in pixels; None if it answers with features.
        georeferenced: Whether the image has a georeference.

    Raises:
        RequestError: An output cannot be written; the message names it and the remedy.
    """
    _check_places(outputs)
    for index, output in enumerate(outputs):
        field = f"outputs[{index}]"
        if not isinstance(output, KinesisOutput):
            _check_formats(output.formats, f"{field}.formats", georeferenced=georeferenced)
        if isinstance(output, S3Output):
            _check_bucket(output.bucket, field)
        elif isinstance(output, KinesisOutput):
            if raster is not None and raster.polygons is None:
                raise RequestError(
                    f"{field}: a stream takes features, and the model answers with pixels: give "
                    "rasterOutput.polygons, or leave the stream out."
                )
            _check_stream(output.stream, field)
        else:
            _check_folder(_allowed(Path(output.path), roots), field)


def _check_places(outputs: Sequence[Output]) -> None:
    """Check that no output would remove the files of another, of formats that it does not have."""
    found: dict[str, tuple[int, tuple[FeatureFormat, ...]]] = {}
    for index, output in enumerate(outputs):
        if isinstance(output, KinesisOutput):
            continue
        place = _place(output)
        first, formats = found.setdefault(place, (index, output.formats))
        if formats != output.formats:
            both = ",".join(each for each in FeatureFormat if each in {*formats, *output.formats})
            raise RequestError(
                f"outputs[{index}]: {place} is the place of outputs[{first}] too, with other "
                f"formats: give one output with the formats {both}."
            )


def _place(output: S3Output | FileOutput) -> str:
    if isinstance(output, S3Output):
        return objects.join(f"s3://{output.bucket}", output.prefix)
    return os.path.realpath(output.path)


def file_uri(output: S3Output | FileOutput, name: str, roots: Sequence[Path]) -> str:
    """URI of a file in an output.

    Raises:
        RequestError: The file would lie outside the folders that the operator allows.
    """
    if isinstance(output, S3Output):
        return objects.join(f"s3://{output.bucket}", output.prefix, name)
    return str(_allowed(Path(output.path) / name, roots))


def _allowed(path: Path, roots: Sequence[Path]) -> Path:
    """A local path with its links and `..` resolved; it has to lie inside one of the roots."""
    if resolved := within(path, roots):
        return resolved
    named = ", ".join(map(str, roots)) or "none"
    raise RequestError(
        f"Output path {path} is outside the folders that the operator allows ({named}): "
        "name a folder inside them, or add it to SWATH_LOCAL_ROOTS."
    )


def _check_formats(formats: Collection[FeatureFormat], field: str, *, georeferenced: bool) -> None:
    for name, each in ((name, FORMATS[name]) for name in formats if name in FORMATS):
        if each.georeferenced and not georeferenced:
            others = ",".join(other for other in formats if other != name)
            raise RequestError(
                f"{field}: {name} is a map of the Earth, and the image has no georeference: leave "
                f"the format out{f', and give {others}' if others else ''}."
            )
        for package in each.packages:
            if find_spec(package) is None:
                raise RequestError(
                    f"{field}: {name} is written by {package}, which is not installed: pip install "
                    "'swath[formats]', or leave the format out."
                )


def _check_bucket(bucket: str, field: str) -> None:
    try:
        client("s3").head_bucket(Bucket=bucket)
    except (ClientError, BotoCoreError) as error:
        raise RequestError(
            f"{field}: bucket {bucket!r} cannot be reached ({error}): create it, correct its name, "
            "or grant this process s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject "
            "on it."
        ) from error


def _check_stream(stream: str, field: str) -> None:
    try:
        status = stream_status(stream)
    except (ClientError, BotoCoreError) as error:
        raise RequestError(
            f"{field}: stream {stream!r} cannot be reached ({error}): create it, correct its name, "
            "or grant this process kinesis:DescribeStream and kinesis:PutRecords on it."
        ) from error
    if status not in {"ACTIVE", "UPDATING"}:
        raise RequestError(f"{field}: stream {stream!r} is {status}: wait until it is ACTIVE.")


def _check_folder(folder: Path, field: str) -> None:
    """Check the folder, or its nearest parent that exists: a missing folder is created later."""
    existing = next(path for path in (folder, *folder.parents) if _exists(path))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise RequestError(
            f"{field}: folder {folder} cannot be made or written, because {existing} is not a "
            "folder that this process may write in: name another one, or change its permissions."
        )


def _exists(path: Path) -> bool:
    """Whether a path exists; False also if this process may not enter its folder."""
    try:
        return path.exists()
    except PermissionError:
        return False
