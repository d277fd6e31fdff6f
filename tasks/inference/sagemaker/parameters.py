"""A request's `imageProcessorParameters` as arguments of a call of SageMaker's runtime."""

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
    # a file name of the producer's would be that of every tile's answer
    ASYNCHRONOUS: frozenset({"EndpointName", "Body", "InputLocation", "Filename"}),
}
_NUMBERS = ("integer", "long")


def parameters_of(operation: str) -> frozenset[str]:
    """The parameters that a request may give an operation, read off botocore's own model of it."""
    return frozenset(_members(operation)) - _OWN[operation]


def check_names(parameters: Mapping[str, Any]) -> None:
    """Refuse what no operation has, before AWS is asked anything.

    Raises:
        RequestError: With the names that there are.
    """
    allowed = parameters_of(REAL_TIME) | parameters_of(ASYNCHRONOUS)
    for name in parameters:
        if name not in allowed:
            raise RequestError(
                f"imageProcessorParameters.{name}: is no parameter of InvokeEndpoint that a "
                f"request may set; give {', '.join(sorted(allowed))}."
            )


def arguments(operation: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A request's parameters, each in the type that the operation takes; empty ones left out.

    Args:
        operation: `REAL_TIME` or `ASYNCHRONOUS`.
        parameters: The request's `imageProcessorParameters`.

    Raises:
        RequestError: The operation has no such parameter, or Swath itself sets it, or the value is
            not one that it takes.
    """
    allowed = parameters_of(operation)
    for name in parameters:
        if name not in allowed:
            why = "is set by Swath" if name in _OWN[operation] else f"is none of {operation}"
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
    """A value in its type, within the limits that the model of the service gives."""
    least, most = int(shape.metadata.get("min", 0)), shape.metadata.get("max")
    if shape.type_name in _NUMBERS:
        if not (text.isdecimal() and least <= int(text) <= int(most or text)):
            raise RequestError(
                f"imageProcessorParameters.{name}: {text!r} is not a whole number from {least} to "
                f"{most}; give one."
            )
        return int(text)
    if not text.isascii():  # they travel as headers
        raise RequestError(
            f"imageProcessorParameters.{name}: {text!r} is not ASCII; encode it, in base64 say."
        )
    if not least <= len(text) <= int(most or len(text)):
        raise RequestError(
            f"imageProcessorParameters.{name}: has {len(text)} characters where SageMaker takes "
            f"{least} to {most}; shorten it."
        )
    return text
