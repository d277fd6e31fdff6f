"""Reading a description."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import orjson
from pydantic import ValidationError

from tasks.errors import RequestError
from tasks.inference.description.description import Description
from tasks.inference.description.properties import Properties
from tasks.inference.description.source import find
from tasks.request.validation_errors import problem_lines

_LARGEST = 4 << 20  # bytes; Objects365 has 365 classes, and takes 20 KB
_ABSENT = (
    "write the model's description there, a JSON object with mlm:name, mlm:input, mlm:output and "
    "swath:detector, or name it in imageProcessorParameters.description"
)


def load_description(uri: str, roots: Sequence[Path], role: str | None) -> Description:
    """The description of a model.

    Args:
        uri: `s3://bucket/key`, or a path below one of `roots`, of a STAC Item or its properties.
        roots: Folders that the operator allowed.
        role: IAM role to assume for S3; None for the process's own identity.

    Raises:
        RequestError: There is none, or it is refused, with a line for each problem.
    """
    text = find(uri, roots, role, largest=_LARGEST, absent=_ABSENT).read()
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"{uri}: is not JSON ({error}); correct it.") from error
    if isinstance(document, dict) and isinstance(document.get("properties"), dict):
        document = document["properties"]
    try:
        return Description(uri, Properties.model_validate(document))
    except ValidationError as error:
        lines = problem_lines(error, Properties)
        raise RequestError("\n".join(f"{uri}: {line}" for line in lines)) from None
