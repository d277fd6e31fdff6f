"""The metadata of a served model, fetched before any tile is sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, BeforeValidator, NonNegativeInt, ValidationError

from tasks.errors import PermanentError, RequestError, TransientError
from tasks.inference.description.signature import TensorSpec
from tasks.inference.excerpt import excerpt
from tasks.inference.oip.messages import OK, check_response, error_text
from tasks.inference.oip.tensors import DATATYPES
from tasks.inference.transport import Response, Transport, check_sendable

_BINARY, _CONFIGURATION = "binary_tensor_data", "model_configuration"
_MODEL = re.compile(
    r"(?P<model>(?P<server>https?://[^?#]+?/v2)/models/[^/?#]+(/versions/[^/?#]+)?)(/infer)?/?"
)

_Document = TypeVar("_Document", bound=BaseModel)


class _TensorMetadata(BaseModel):
    """An input or output in the protocol's JSON; -1 in `shape` is any size."""

    name: str
    datatype: str
    shape: list[int]


# a server that does not know its tensors leaves them out, or sends null
_Tensors = Annotated[list[_TensorMetadata], BeforeValidator(lambda given: given or [])]


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
        url: URL of the model, without `/infer`.
        inputs: Type and shape of each input by name; empty if the server does not say.
        outputs: Type and shape of each output by name; empty if the server does not say.
        binary: Whether the server says that it accepts the binary tensor data extension.
        max_batch_size: Maximum number of tiles in a batch; None if the server does not say.
    """

    url: str
    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    binary: bool
    max_batch_size: int | None


def fetch_model(name: str, headers: Mapping[str, str], transport: Transport) -> ServedModel:
    """Fetch a model's metadata from its server.

    Args:
        name: `imageProcessor.name`:
            http(s)://host[:port][/base]/v2/models/NAME[/versions/V][/infer].
        headers: Headers that the server needs, such as Authorization.
        transport: Used for the requests.

    Raises:
        RequestError: `name` is not such a URL, there is no such model, or access is denied.
        EndpointError: The server does not answer, or the model is not ready yet.
    """
    url, server = _urls(name)

    def get(address: str) -> Response:
        return transport.send("GET", address, headers)

    model = _model_metadata(url, get(url))
    _check_ready(url, get(f"{url}/ready"))
    extensions = _parse_optional(get(server), _ServerMetadata).extensions
    max_batch_size = None
    if _CONFIGURATION in extensions:
        configuration = _parse_optional(get(f"{url}/config"), _ModelConfiguration)
        # Triton says 0 for a model without batching
        max_batch_size = configuration.max_batch_size or None
    binary = _BINARY in extensions
    return ServedModel(url, _specs(model.inputs), _specs(model.outputs), binary, max_batch_size)


def _specs(tensors: list[_TensorMetadata]) -> dict[str, TensorSpec]:
    specs = {}
    for tensor in tensors:
        dtype = DATATYPES.get(tensor.datatype)
        shape = tuple(None if size < 0 else size for size in tensor.shape)
        specs[tensor.name] = TensorSpec(dtype.name if dtype else tensor.datatype, shape)
    return specs


def _urls(name: str) -> tuple[str, str]:
    """The URL of the model and the URL of its server."""
    parts = _MODEL.fullmatch(name)
    if parts is None:
        raise RequestError(
            f"imageProcessor.name: {name!r} is not the URL of a model in the Open Inference "
            "Protocol; give http(s)://host:port/v2/models/NAME or …/NAME/versions/VERSION."
        )
    check_sendable(name, {})
    return parts["model"], parts["server"]


def _model_metadata(url: str, response: Response) -> _ModelMetadata:
    try:
        check_response(url, response)
        return _ModelMetadata.model_validate_json(response.body)
    except PermanentError as error:
        raise RequestError(
            f"imageProcessor.name: {error}. Name a model that the server has, and give the headers "
            "that it needs (such as Authorization) in imageProcessorParameters."
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise RequestError(
            f"imageProcessor.name: {url} does not speak the Open Inference Protocol "
            f"({'.'.join(map(str, first['loc'])) or 'its answer'}: {first['msg']}); give the URL "
            "of a model of a server that does, or type HTTP_ENDPOINT."
        ) from error


def _check_ready(url: str, response: Response) -> None:
    """Check that the model is loaded: by the status and, as some servers need, by the body."""
    if response.status == OK and not _says_not_ready(response.body):
        return
    text = excerpt(error_text(response.body))
    raise TransientError(
        f"{url}/ready answered HTTP {response.status}{text and f': {text}'}: the model is not "
        "ready; wait until it is loaded."
    )


def _says_not_ready(body: bytes) -> bool:
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(document, dict) and document.get("ready") is False


def _parse_optional(response: Response, kind: type[_Document]) -> _Document:
    """An optional document, or an empty one: a gateway may block these requests."""
    try:
        return kind.model_validate_json(response.body) if response.status == OK else kind()
    except ValidationError:
        return kind()
