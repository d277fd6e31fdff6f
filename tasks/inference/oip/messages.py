"""Requests and responses of the Open Inference Protocol over REST, in binary or in JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from tasks.errors import AnswerError
from tasks.inference.answer import parse
from tasks.inference.excerpt import excerpt
from tasks.inference.http_status import check_status
from tasks.inference.oip.tensors import DATATYPES, OutputTensor, datatype
from tasks.inference.transport import Response

OK = 200
JSON_LENGTH = "Inference-Header-Content-Length"
"""Header with the length of the JSON, in bytes; binary tensors follow it."""

_MAX_OUTPUTS = 100


class _InferenceResponse(BaseModel):
    outputs: list[OutputTensor] = Field(min_length=1, max_length=_MAX_OUTPUTS)


def write_request(
    inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], *, binary: bool
) -> tuple[dict[str, str], bytes | bytearray]:
    """An inference request: its headers and body.

    It always asks for outputs in binary: a server without the extension ignores that.

    Args:
        inputs: Tensors by name, of dtypes that are in `DATATYPES`.
        outputs: Names of the outputs to ask for; empty for all.
        binary: Whether to send the inputs in binary, not in JSON.

    Raises:
        ValueError: JSON cannot hold the inputs.
    """
    descriptions: list[dict[str, Any]] = [
        {"name": name, "shape": tensor.shape, "datatype": datatype(tensor.dtype)}
        for name, tensor in inputs.items()
    ]
    document = {"parameters": {"binary_data_output": True}, "inputs": descriptions}
    if outputs:
        parameters = {"binary_data": True}
        document["outputs"] = [{"name": name, "parameters": parameters} for name in outputs]
    if binary:
        return _write_binary(document, descriptions, list(inputs.values()))
    for name, description, tensor in zip(inputs, descriptions, inputs.values(), strict=True):
        if not np.isfinite(tensor).all():
            raise ValueError(f"{name} holds NaN or infinity, which JSON cannot carry")
        description["data"] = np.ascontiguousarray(tensor).reshape(-1)
    body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return {"Content-Type": "application/json"}, body


def _write_binary(
    document: Mapping[str, Any], descriptions: list[dict[str, Any]], tensors: list[NDArray[Any]]
) -> tuple[dict[str, str], bytearray]:
    for description, tensor in zip(descriptions, tensors, strict=True):
        description["parameters"] = {"binary_data_size": tensor.nbytes}
    head = orjson.dumps(document)
    body = bytearray(len(head) + sum(tensor.nbytes for tensor in tensors))
    body[: len(head)] = head
    offset = len(head)
    for description, tensor in zip(descriptions, tensors, strict=True):
        elements = np.frombuffer(body, DATATYPES[description["datatype"]], tensor.size, offset)
        elements.reshape(tensor.shape)[...] = tensor
        offset += tensor.nbytes
    return {"Content-Type": "application/octet-stream", JSON_LENGTH: str(len(head))}, body


def is_binary(response: Response) -> bool:
    """Whether a response has binary tensors, by the binary tensor data extension."""
    return JSON_LENGTH.lower() in response.headers


def read_outputs(response: Response, wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The outputs of a response by name, each with the shape and datatype that it declares.

    Args:
        response: A response with status 200.
        wanted: Names of the outputs to read, all of which must be present; empty for all.

    Raises:
        AnswerError: The response does not follow the protocol, or is incomplete.
    """
    length = _json_length(response) if is_binary(response) else len(response.body)
    tail = memoryview(response.body)[length:]
    outputs: dict[str, NDArray[Any]] = {}
    for output in _parse(response.body[:length]):
        if output.name in outputs:
            raise AnswerError(f"The response has the output {output.name!r} twice.")
        if not wanted or output.name in wanted:
            outputs[output.name] = output.array(tail)
        tail = tail[output.parameters.binary_data_size or 0 :]
    if tail:
        raise AnswerError(f"The response has {len(tail)} bytes more than its outputs.")
    for name in wanted:
        if name not in outputs:
            raise AnswerError(f"The response lacks the output {name!r} of the model.")
    return outputs


def _json_length(response: Response) -> int:
    text = response.headers[JSON_LENGTH.lower()]
    if text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= len(response.body):
        return int(text)
    raise AnswerError(
        f"The response's {JSON_LENGTH} is {text[:40]!r}, and its body has "
        f"{len(response.body)} bytes."
    )


def _parse(text: bytes) -> list[OutputTensor]:
    try:
        return _InferenceResponse.model_validate(parse(text)).outputs
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        location = ".".join(map(str, first["loc"])) or "the document"
        raise AnswerError(
            "The response does not follow the Open Inference Protocol "
            f"({location}: {first['msg']}): {excerpt(text)}"
        ) from error


def check_response(url: str, response: Response) -> None:
    """Check the status of a response; the error contains the server's own message.

    Args:
        url: The endpoint, as messages name it.
        response: The server's response.

    Raises:
        EndpointError: See `tasks.inference.http_status.check_status`.
    """
    if response.status != OK:
        response = replace(response, body=error_text(response.body))
    check_status(url, response)


def error_text(body: bytes) -> bytes:
    """The text in a body `{"error": "…"}`; the whole body if it has another form."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    text = document.get("error") if isinstance(document, dict) else None
    return text.encode() if isinstance(text, str) else body
