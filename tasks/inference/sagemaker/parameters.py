"""A request's `imageProcessorParameters` as arguments of SageMaker's runtime operations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from botocore.loaders import create_loader
from botocore.model import ServiceModel, Shape

from tasks.errors import RequestError

REAL_TIME = "InvokeEndpoint"
ASYNCHRONOUS = "InvokeEndpointAsync"

_OWN = {
    REAL_TIME: frozenset({"EndpointName", "Body"}),
    # a Filename in the request would give all tiles' answers the same name
    ASYNCHRONOUS: frozenset({"EndpointName", "Body", "InputLocation", "Filename"}),
}
_NUMBERS = ("integer", "long")


def parameters_of(operation: str) -> frozenset[str]:
    """The parameters that a request may set, from botocore's model of the operation."""
    return frozenset(_members(operation)) - _OWN[operation]


def check_names(parameters: Mapping[str, Any]) -> None:
    """Refuse parameters that no operation has, before AWS is called.

    Raises:
        RequestError: No operation has the parameter; the message lists the allowed names.
    """
    allowed = parameters_of(REAL_TIME) | parameters_of(ASYNCHRONOUS)
    for name in parameters:
        if name not in allowed:
            raise RequestError(
                f"imageProcessorParameters.{name}: is not a parameter of InvokeEndpoint that "
                f"a request may set; give {', '.join(sorted(allowed))}."
            )


def arguments(operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A request's parameters in the types that the operation takes, without empty ones.

    Args:
        operation: `REAL_TIME` or `ASYNCHRONOUS`.
        parameters: The request's `imageProcessorParameters`.

    Raises:
        RequestError: The operation does not have the parameter, Swath sets it, or the operation
            does not allow the value.
    """
    allowed = parameters_of(operation)
    for name in parameters:
        if name not in allowed:
            why = (
                "is set by Swath"
                if name in _OWN[operation]
                else f"is not a parameter of {operation}"
            )
            raise RequestError(
                f"imageProcessorParameters.{name}: {why}; give {', '.join(sorted(allowed))}."
            )
    texts = {name: str(value).strip() for name, value in parameters.items()}
    members = _members(operation)
    return {name: _value(name, text, members[name]) for name, text in texts.items() if text}


@cache
def _members(operation: str) -> dict[str, Shape]:
    document = create_loader().load_service_model("sagemaker-runtime", "service-2")
    takes = ServiceModel(document, "sagemaker-runtime").operation_model(operation).input_shape
    return dict(takes.members) if takes else {}


def _value(name: str, text: str, shape: Shape) -> str | int:
    """A value in its type, checked against the limits in botocore's model of the service."""
    least, most = int(shape.metadata.get("min", 0)), shape.metadata.get("max")
    if shape.type_name in _NUMBERS:
        if not (text.isdecimal() and least <= int(text) <= int(most or text)):
            raise RequestError(
                f"imageProcessorParameters.{name}: {text!r} is not a whole number from {least} to "
                f"{most}; give one."
            )
        return int(text)
    if not text.isascii():  # sent as headers
        raise RequestError(
            f"imageProcessorParameters.{name}: {text!r} is not ASCII; encode it, for example as "
            "base64."
        )
    if not least <= len(text) <= int(most or len(text)):
        raise RequestError(
            f"imageProcessorParameters.{name}: has {len(text)} characters; SageMaker takes "
            f"{least} to {most}: shorten it."
        )
    return text
