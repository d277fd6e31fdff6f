"""The built-in models: found by name, and called as an endpoint in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from tasks.errors import RequestError
from tasks.imagery import TilePixels
from tasks.inference.builtin.bright_targets import BrightTargets
from tasks.inference.builtin.brightness import (
    RASTER_OUTPUT,
    TILE_OUTPUT,
    BrightnessClasses,
    BrightnessScenes,
)
from tasks.inference.builtin.failure import Failure
from tasks.inference.builtin.synthetic import Centerpoint, Flood
from tasks.inference.endpoint import Pixels

Model = Callable[[NDArray[Any]], Any]
"""Takes pixels (bands, height, width) of any real dtype, in native byte order; returns a GeoJSON
FeatureCollection in pixels of the tile, or a raster (bands, height, width)."""

MODELS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {
        "bright-targets": BrightTargets,
        "brightness-classes": BrightnessClasses,
        "brightness-scenes": BrightnessScenes,
        "centerpoint": Centerpoint,
        "failure": Failure,
        "flood": Flood,
    }
)
"""Every built-in model: its name and the class whose fields are its parameters."""

RASTER_OUTPUTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {"brightness-classes": RASTER_OUTPUT}
)
"""The fields of `rasterOutput` for each built-in model that answers with pixels, by its name."""

TILE_OUTPUTS: Mapping[str, Mapping[str, Any]] = MappingProxyType({"brightness-scenes": TILE_OUTPUT})
"""The fields of `tileOutput` for each that answers about whole tiles, by its name."""


def create_model(name: str, parameters: Mapping[str, Any] = MappingProxyType({})) -> Model:
    """A built-in model, safe to call from several threads.

    Args:
        name: A key of `MODELS`.
        parameters: Values of its parameters; text such as "12" is converted to a number.

    Raises:
        RequestError: There is no such model or parameter, or a value is out of range. The message
            lists the models or parameters.
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


class BuiltinEndpoint:
    """A built-in model called in this process, without encoding."""

    tiles_per_call = 1
    local = True

    def __init__(
        self, name: str, parameters: Mapping[str, str | int | float], *, raster: bool = False
    ) -> None:
        """Create the model.

        Args:
            name: See `create_model`.
            parameters: See `create_model`.
            raster: Whether it is to answer with a raster.

        Raises:
            RequestError: See `create_model`; or the model finds objects, and is to answer with a
                raster.
        """
        self._model = create_model(name, parameters)
        if raster and name not in RASTER_OUTPUTS:
            raise RequestError(
                f"rasterOutput: the built-in model {name} finds objects; leave it out, or name "
                f"{', '.join(RASTER_OUTPUTS)}."
            )
        self.capacity: int | None = os.cpu_count() or 1

    def prepare(self, tile: TilePixels) -> NDArray[Any]:
        """A contiguous copy of the tile's pixels, so that the strip's memory can be reused."""
        return np.ascontiguousarray(tile.pixels)

    def ask(self, prepared: Sequence[NDArray[Any]]) -> Sequence[object]:
        """The model's answer for each tile."""
        answers = map(self._model, prepared)
        return [Pixels(each) if isinstance(each, np.ndarray) else each for each in answers]

    def close(self) -> None:
        """Do nothing: there are no connections."""
