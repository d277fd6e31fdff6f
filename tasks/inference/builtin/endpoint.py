"""The built-in models as an endpoint."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.imagery import TilePixels
from tasks.inference.builtin import model


class BuiltinEndpoint:
    """A built-in model called in this process, without encoding."""

    tiles_per_call = 1
    local = True

    def __init__(self, name: str, parameters: Mapping[str, str | int | float]) -> None:
        """Look the model up; raises RequestError where there is none of that name."""
        self._model = model(name, parameters)
        self.capacity: int | None = os.cpu_count() or 1

    def prepare(self, tile: TilePixels) -> NDArray[Any]:
        """A copy of the tile's pixels, so that the strip they are of need not stay."""
        return np.ascontiguousarray(tile.pixels)

    def ask(self, prepared: Sequence[NDArray[Any]]) -> Sequence[object]:
        """The model's answer for each tile."""
        return [self._model(pixels) for pixels in prepared]

    def close(self) -> None:
        """Nothing to let go of."""
