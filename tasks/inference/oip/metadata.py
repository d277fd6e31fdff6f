"""What a server of the Open Inference Protocol says of a model, asked before any tile is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, BeforeValidator, NonNegativeInt, ValidationError

from tasks.errors import PermanentError, RequestError, TransientError
from tasks.inference.oip.messages import OK, check_answered, error_text
from tasks.inference.transport import Response, Transport, check_sendable

_BINARY, _CONFIGURATION = "binary_tensor_data", "model_configuration"
_MODEL = re.compile(
    r"(?P<model>(?P<server>https?://[^?#]+?/v2)/models/[^/?#]+(/versions/[^/?#]+)?)(/infer)?/?"
)

_Document = TypeVar("_Document", bound=BaseModel)


class TensorMetadata(BaseModel):
    """An input or output of a model.

    Attributes:
        name: In requests and replies.
        datatype: In the protocol's words.
        shape: With the batch first; -1 for a side of any length.
    """

    name: str
    datatype: str
    shape: list[int]


# servers that do not know leave them out, or say null
_Tensors = Annotated[list[TensorMetadata], BeforeValidator(lambda given: given or [])]


class _ModelMetadata(BaseModel):
    inputs: _Tensors = []
    outputs: _Tensors = []


class _ServerMetadata(BaseModel):
    extensions: Annotated[list[str], BeforeValidator(lambda given: given or [])] = []


class _ModelConfiguration(BaseModel):
    max_batch_size: NonNegativeInt = 0


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as its server describes it.

    Attributes:
        url: Where it is, without `/infer`.
        inputs: What it takes; empty where the server does not say.
        outputs: What it gives; empty where the server does not say.
        binary: Whether the server says that it takes tensors in bytes.
        most: Tiles of a batch at most; None where the server does not say.
    """

    url: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]
    binary: bool
    most: int | None


def ask_about(name: str, headers: Mapping[str, str], transport: Transport) -> ServedModel:
    """What there is to know of a model.

    Args:
        name: The request's: http(s)://host[:port][/base]/v2/models/NAME[/versions/V][/infer].
        headers: That the server asks for, such as Authorization.
        transport: Carries the questions.

    Raises:
        RequestError: That is no such URL, or there is no such model, or not for us.
        EndpointError: The server does not answer, or has the model not ready yet.
    """
    url, server = _addresses(name)

    def ask(address: str) -> Response:
        return transport.send("GET", address, headers)

    model = _model_metadata(url, ask(url))
    _check_ready(url, ask(f"{url}/ready"))
    known = _hint(ask(server), _ServerMetadata).extensions
    most = None
    if _CONFIGURATION in known:
        # 0 is Triton's word for a model whose batches it does not know
        most = _hint(ask(f"{url}/config"), _ModelConfiguration).max_batch_size or None
    return ServedModel(url, tuple(model.inputs), tuple(model.outputs), _BINARY in known, most)


def _addresses(name: str) -> tuple[str, str]:
    """The URL of the model, and of its server."""
    parts = _MODEL.fullmatch(name)
    if parts is None:
        raise RequestError(
            f"imageProcessor.name: {name!r} is not the URL of a model in the Open Inference "
            "Protocol; give http(s)://host:port/v2/models/NAME or …/NAME/versions/VERSION."
        )
    check_sendable(name, {})
    return parts["model"], parts["server"]


def _model_metadata(url: str, reply: Response) -> _ModelMetadata:
    try:
        check_answered(url, reply)
        return _ModelMetadata.model_validate_json(reply.body)
    except PermanentError as error:
        raise RequestError(
            f"imageProcessor.name: {error}. Name a model that the server has, and give what it "
            "asks for (such as Authorization) in imageProcessorParameters."
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise RequestError(
            f"imageProcessor.name: {url} does not speak the Open Inference Protocol "
            f"({'.'.join(map(str, first['loc'])) or 'its answer'}: {first['msg']}); give the URL "
            "of a model of a server that does, or type HTTP_ENDPOINT."
        ) from error


def _check_ready(url: str, reply: Response) -> None:
    """Refuse a model that is loading still; a status tells, and some servers tell in the body."""
    if reply.status == OK and not _denied(reply.body):
        return
    said = error_text(reply.body)[:200].decode(errors="replace").strip()
    raise TransientError(
        f"{url}/ready answered HTTP {reply.status}{said and f': {said}'}: the model is not ready; "
        "wait until it is loaded."
    )


def _denied(body: bytes) -> bool:
    try:
        said: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(said, dict) and said.get("ready") is False


def _hint(reply: Response, kind: type[_Document]) -> _Document:
    """What is good to know, and done without where a gateway lets through models alone."""
    try:
        return kind.model_validate_json(reply.body) if reply.status == OK else kind()
    except ValidationError:
        return kind()
