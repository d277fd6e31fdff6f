"""Models whose answers do not depend on what an image shows: `centerpoint` and `flood`."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.inference.builtin.geojson import collection, feature

_CENTRE_SIDE = 0.2  # of the tile's sides
_FLOOD_MIN_SIDE, _FLOOD_MAX_SIDE = 0.01, 0.10  # of the tile's sides


class Centerpoint(BaseModel):
    """Finds a `sample_object` in the middle fifth of each tile, whatever its pixels."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __call__(self, pixels: NDArray[Any]) -> dict[str, Any]:
        """The object: a box of 20 % of the tile's sides, and its centre as a Point.

        Args:
            pixels: (bands, height, width), any dtype; only the shape matters.
        """
        height, width = pixels.shape[-2:]
        x, y = width / 2, height / 2
        half_width, half_height = width * _CENTRE_SIDE / 2, height * _CENTRE_SIDE / 2
        box = (x - half_width, y - half_height, x + half_width, y + half_height)
        centre = {"type": "Point", "coordinates": [x, y]}
        found = feature("centerpoint", box, iri="sample_object", score=1.0, geometry=centre)
        return collection([found])


class Flood(BaseModel):
    """Finds `count` random objects, always the same for the same pixels and seed; for load tests.

    Attributes:
        count: Number of boxes per tile.
        seed: Seed of the random generator; other seeds give other boxes for the same tile.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(100, ge=0, le=1_000_000)
    seed: int = Field(0, ge=0)

    def __call__(self, pixels: NDArray[Any]) -> dict[str, Any]:
        """`count` boxes inside the tile, with sides of 1 to 10 % of its sides, and scores 0 to 1.

        The random generator is seeded with a hash of seed, shape and pixels, so the answer depends
        neither on the order of calls nor on the number of threads.

        Args:
            pixels: (bands, height, width), any dtype.
        """
        height, width = pixels.shape[-2:]
        key = blake2b(str((self.seed, pixels.shape, pixels.dtype.str)).encode(), digest_size=16)
        key.update(np.ascontiguousarray(pixels).view(np.uint8).data)
        random = np.random.default_rng(int.from_bytes(key.digest(), "big"))
        extent = np.array([width, height], dtype=np.float64)
        sides = random.uniform(_FLOOD_MIN_SIDE, _FLOOD_MAX_SIDE, (self.count, 2)) * extent
        corners = random.uniform(0, 1, (self.count, 2)) * (extent - sides)
        boxes = np.concatenate([corners, corners + sides], axis=1)
        scores = random.uniform(0, 1, self.count)
        return collection(
            [
                feature("flood", box, iri="sample_object", score=score)
                for box, score in zip(boxes.tolist(), scores.tolist(), strict=True)
            ]
        )
