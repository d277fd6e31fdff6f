"""A tile as a model takes it, with the way back to the tile's own pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.inference.description.placement import Placement


@dataclass(frozen=True, slots=True)
class Prepared:
    """A tile as a model takes it.

    Attributes:
        tensor: The model's input without its batch axis: in its dtype and order of dimensions,
            contiguous.
        placement: Where in the input the tile lies.
    """

    tensor: NDArray[Any]
    placement: Placement

    def to_tile(self, boxes: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Boxes (n, 4) in pixels of the input, corner-origin, in pixels of the tile."""
        place = self.placement
        offset = np.array((place.left, place.top) * 2, np.float64)
        scale = np.array(place.scale * 2, np.float64)
        moved: NDArray[np.float64] = (boxes - offset) / scale
        return moved
