"""One object at the centre of every tile: the smallest model that shows where things land."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from tasks.inference.builtin.answer import collection, feature

SIDE = 0.2  # of the tile's


class Centerpoint(BaseModel):
    """Finds a `sample_object` in the middle fifth of each tile, whatever is in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __call__(self, pixels: NDArray[Any]) -> dict[str, Any]:
        """The object: a box of 20 % of the tile's sides, and its centre as a Point.

        Args:
            pixels: (bands, height, width), any dtype; only the shape matters.
        """
        height, width = pixels.shape[-2:]
        x, y = width / 2, height / 2
        box = (
            x - width * SIDE / 2,
            y - height * SIDE / 2,
            x + width * SIDE / 2,
            y + height * SIDE / 2,
        )
        centre = {"type": "Point", "coordinates": [x, y]}
        found = feature("centerpoint", box, iri="sample_object", score=1.0, geometry=centre)
        return collection([found])
