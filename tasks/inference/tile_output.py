"""What a model answers about whole tiles, where its description says so and a request does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from tasks.errors import RequestError
from tasks.inference.builtin import TILE_OUTPUTS
from tasks.inference.description import Description
from tasks.request import EndpointType, Request
from tasks.request.message import describe_errors


def resolve_tile_output(request: Request, description: Description | None) -> Request:
    """The request, with all that its model's description says of its `tileOutput`.

    What the request gives itself counts. A model without a description is left as it is.

    Args:
        request: The message.
        description: That of its model; None for one that has none.

    Raises:
        RequestError: The description does not go with what the request gives.
    """
    described = _described(description) if description else _builtin(request)
    given, name = request.tile_output, request.image_processor.name
    if described is None:
        if given is not None and description is not None:
            raise RequestError(
                f"tileOutput: the description of {name} says that it does not answer about whole "
                "tiles; leave it out, or describe the answer in swath:tile."
            )
        return request
    whole = request.model_dump(mode="json", exclude_unset=True)
    own = {} if given is None else given.model_dump(mode="json", exclude_unset=True)
    try:
        resolved = Request.model_validate(whole | {"tileOutput": {**described, **own}})
    except ValidationError as error:
        raise RequestError(f"{describe_errors(error)} (see the description of {name})") from None
    for field in ("classes", "size"):
        wanted, found = described.get(field), own.get(field)
        if found is not None and _count(found) != _count(wanted):
            raise RequestError(
                f"tileOutput.{field}: gives {_count(found)}, and by its description {name} answers "
                f"with {_count(wanted)} numbers; leave it out, or correct the description."
            )
    return resolved


def _count(given: object) -> object:
    return len(given) if isinstance(given, list) else given


def _described(description: Description) -> dict[str, Any] | None:
    """The fields of `tileOutput` by a description; None for a model of another kind."""
    head = description.properties.tile
    if head is None:
        return None
    if head.is_embedding:
        return {"values": head.values, "size": head.size}
    names = [one.name for one in description.properties.classes]
    return {"values": head.values, "classes": names, "activation": head.activation}


def _builtin(request: Request) -> Mapping[str, Any] | None:
    """The fields of `tileOutput` of a built-in model that answers about whole tiles."""
    if request.image_processor.type is not EndpointType.BUILTIN:
        return None
    return TILE_OUTPUTS.get(request.image_processor.name)
