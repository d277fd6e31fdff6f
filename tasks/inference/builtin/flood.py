"""Many random boxes in every tile: a load for whatever comes after the model."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.inference.builtin.answer import collection, feature

SHORTEST, LONGEST = 0.01, 0.10  # sides of the boxes, of the tile's


class Flood(BaseModel):
    """Finds `count` objects at random, the same for the same pixels and seed.

    Attributes:
        count: Boxes a tile.
        seed: Another seed floods the same tile with other boxes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(100, ge=0, le=1_000_000)
    seed: int = Field(0, ge=0)

    def __call__(self, pixels: NDArray[Any]) -> dict[str, Any]:
        """`count` boxes inside the tile, sides 1 to 10 % of its own, scores 0 to 1.

        The random stream is keyed by seed, shape and pixels, so neither the order of calls nor the
        number of threads changes an answer.

        Args:
            pixels: (bands, height, width), any dtype.
        """
        height, width = pixels.shape[-2:]
        key = blake2b(str((self.seed, pixels.shape, pixels.dtype.str)).encode(), digest_size=16)
        key.update(np.ascontiguousarray(pixels).view(np.uint8).data)
        random = np.random.default_rng(int.from_bytes(key.digest(), "big"))
        extent = np.array([width, height], dtype=np.float64)
        sides = random.uniform(SHORTEST, LONGEST, (self.count, 2)) * extent
        corners = random.uniform(0, 1, (self.count, 2)) * (extent - sides)
        boxes = np.concatenate([corners, corners + sides], axis=1)
        scores = random.uniform(0, 1, self.count)
        return collection(
            [
                feature("flood", box, iri="sample_object", score=score)
                for box, score in zip(boxes.tolist(), scores.tolist(), strict=True)
            ]
        )
