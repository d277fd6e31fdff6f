"""Models that come with Swath, to try a pipeline and to test it: by name, in process or over HTTP.

A model is called with a tile's pixels and answers as an endpoint does. Its parameters are the
fields of its class; they come as `imageProcessorParameters`, over HTTP as headers or query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from tasks.errors import RequestError
from tasks.inference.builtin.bright_targets import BrightTargets
from tasks.inference.builtin.centerpoint import Centerpoint
from tasks.inference.builtin.failure import Failure
from tasks.inference.builtin.flood import Flood

Model = Callable[[NDArray[Any]], dict[str, Any]]
"""Pixels (bands, height, width), native dtype, to a FeatureCollection in tile pixels."""

MODELS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {
        "bright-targets": BrightTargets,
        "centerpoint": Centerpoint,
        "failure": Failure,
        "flood": Flood,
    }
)
"""Every built-in model: its name and the class whose fields are its parameters."""


def model(name: str, parameters: Mapping[str, Any] = MappingProxyType({})) -> Model:
    """A built-in model, ready to be called from any thread.

    Args:
        name: One of `MODELS`.
        parameters: Values for its parameters; text such as "12" is understood as a number.

    Raises:
        RequestError: No such model or parameter, or a value out of bounds; names what there is.
    """
    if name not in MODELS:
        raise RequestError(
            f"There is no built-in model {name!r}: imageProcessor.name must be one of "
            f"{', '.join(sorted(MODELS))}."
        )
    chosen = MODELS[name]
    try:
        return chosen.model_validate(dict(parameters))  # type: ignore[return-value] # callable
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        known = ", ".join(sorted(chosen.model_fields)) or "none"
        raise RequestError(
            f"imageProcessorParameters.{where} = {first['input']!r} does not fit the model "
            f"{name!r}: {first['msg']}. Its parameters: {known}."
        ) from error
