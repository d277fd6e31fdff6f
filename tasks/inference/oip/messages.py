"""Requests and replies of the Open Inference Protocol over REST, in bytes or in JSON."""

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
from tasks.inference.http_status import check_status
from tasks.inference.oip.tensors import DATATYPES, OutputTensor, datatype
from tasks.inference.transport import Response

OK = 200
JSON_LENGTH = "Inference-Header-Content-Length"
"""Header with the bytes of JSON that stand before the bytes of tensors."""

_MOST_OUTPUTS = 100


class _InferenceReply(BaseModel):
    outputs: list[OutputTensor] = Field(min_length=1, max_length=_MOST_OUTPUTS)


def write_request(
    inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], *, binary: bool
) -> tuple[dict[str, str], bytes | bytearray]:
    """A request for inference: its headers and body.

    Outputs are asked for in bytes in either form: a server without the extension ignores that.

    Args:
        inputs: Tensors by name, of dtypes that the protocol has.
        outputs: Names of those that are wanted; none for all that the model gives.
        binary: Whether the inputs go in bytes, in place of JSON.

    Raises:
        ValueError: JSON cannot hold them.
    """
    told: list[dict[str, Any]] = [
        {"name": name, "shape": tensor.shape, "datatype": datatype(tensor.dtype)}
        for name, tensor in inputs.items()
    ]
    document = {"parameters": {"binary_data_output": True}, "inputs": told}
    if outputs:
        in_bytes = {"binary_data": True}
        document["outputs"] = [{"name": name, "parameters": in_bytes} for name in outputs]
    if binary:
        return _in_bytes(document, told, list(inputs.values()))
    for name, one, tensor in zip(inputs, told, inputs.values(), strict=True):
        if not np.isfinite(tensor).all():
            raise ValueError(f"{name} holds NaN or infinity, which JSON does not have")
        one["data"] = np.ascontiguousarray(tensor).reshape(-1)
    body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    return {"Content-Type": "application/json"}, body


def _in_bytes(
    document: Mapping[str, Any], told: list[dict[str, Any]], tensors: list[NDArray[Any]]
) -> tuple[dict[str, str], bytearray]:
    for one, tensor in zip(told, tensors, strict=True):
        one["parameters"] = {"binary_data_size": tensor.nbytes}
    head = orjson.dumps(document)
    body = bytearray(len(head) + sum(tensor.nbytes for tensor in tensors))
    body[: len(head)] = head
    place = len(head)
    for one, tensor in zip(told, tensors, strict=True):
        elements = np.frombuffer(body, DATATYPES[one["datatype"]], tensor.size, place)
        elements.reshape(tensor.shape)[...] = tensor
        place += tensor.nbytes
    return {"Content-Type": "application/octet-stream", JSON_LENGTH: str(len(head))}, body


def is_binary(reply: Response) -> bool:
    """Whether a reply holds tensors in bytes, by the binary tensor data extension."""
    return JSON_LENGTH.lower() in reply.headers


def read_outputs(reply: Response, wanted: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The outputs of a reply by name, each as large as it says.

    Args:
        reply: With status 200.
        wanted: Names of those that are read, and have to be there; none for all.

    Raises:
        AnswerError: The reply is none of the protocol's, or is not whole.
    """
    length = _json_length(reply) if is_binary(reply) else len(reply.body)
    tail = memoryview(reply.body)[length:]
    outputs: dict[str, NDArray[Any]] = {}
    for output in _parse(reply.body[:length]):
        if output.name in outputs:
            raise AnswerError(f"The reply has the output {output.name!r} twice.")
        if not wanted or output.name in wanted:
            outputs[output.name] = output.array(tail)
        tail = tail[output.parameters.binary_data_size or 0 :]
    if tail:
        raise AnswerError(f"The reply has {len(tail)} bytes more than its outputs have.")
    for name in wanted:
        if name not in outputs:
            raise AnswerError(f"The reply lacks the output {name!r} of the model.")
    return outputs


def _json_length(reply: Response) -> int:
    told = reply.headers[JSON_LENGTH.lower()]
    if told.isascii() and told.isdecimal() and len(told) < 20 and int(told) <= len(reply.body):
        return int(told)
    raise AnswerError(
        f"The reply's {JSON_LENGTH} is {told[:40]!r}, and its body has {len(reply.body)} bytes."
    )


def _parse(text: bytes) -> list[OutputTensor]:
    try:
        return _InferenceReply.model_validate(parse(text)).outputs
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "all of it"
        raise AnswerError(
            f"The reply is none of the Open Inference Protocol ({place}: {first['msg']}): "
            f"{text[:80]!r}"
        ) from error


def check_answered(url: str, reply: Response) -> None:
    """Nothing for a reply that is no error; the error is told in the server's own words.

    Raises:
        EndpointError: As `tasks.inference.http_status.check_status`.
    """
    if reply.status != OK:
        reply = replace(reply, body=error_text(reply.body))
    check_status(url, reply)


def error_text(body: bytes) -> bytes:
    """The text in `{"error": "…"}`; all of what is anything else."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    text = said.get("error") if isinstance(said, dict) else None
    return text.encode() if isinstance(text, str) else body
