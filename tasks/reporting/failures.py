"""What failed of an image's run: tiles, and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from tasks.imagery import Georeference


class FailedTile(BaseModel):
    """A tile that failed.

    Attributes:
        tile: Index in the grid, row by row, from 0.
        x: Left edge in pixels of the full image.
        y: Upper edge in pixels of the full image.
        width: Width in pixels.
        height: Height in pixels.
        reason: Why it failed.
        longitude: Of its centre, in degrees; None if not known.
        latitude: Of its centre, in degrees; None if not known.
    """

    model_config = ConfigDict(frozen=True)

    tile: int
    x: int
    y: int
    width: int
    height: int
    reason: str
    longitude: float | None = None
    latitude: float | None = None


class FailedOutput(BaseModel):
    """An output that the results could not be published to, or a format of an output.

    Attributes:
        index: Index of the output in the request's `outputs`.
        reason: What happened, and the remedy.
        format: The format that alone could not be published; None if nothing could be.
    """

    model_config = ConfigDict(frozen=True)

    index: int
    reason: str
    format: str | None = None

    @property
    def name(self) -> str:
        """Which output it is, or which format of an output."""
        name = f"outputs[{self.index}]"
        return f"{self.format} of {name}" if self.format else name

    @property
    def text(self) -> str:
        """What failed, and what happened."""
        return f"{self.name} is not published: {self.reason}"


def located(rows: Sequence[dict[str, Any]], georeference: Georeference | None) -> list[FailedTile]:
    """Tiles that failed, with the longitude and latitude of their centres where known.

    Args:
        rows: As `coverage.failures` returns them.
        georeference: The image's, or None.
    """
    tiles = [FailedTile.model_validate(row) for row in rows]
    if not tiles or georeference is None:
        return tiles
    centres = [(tile.x + tile.width / 2, tile.y + tile.height / 2) for tile in tiles]
    world = georeference.to_world(np.array(centres))
    return [
        tile.model_copy(update={"longitude": longitude, "latitude": latitude})
        if isfinite(longitude) and isfinite(latitude)
        else tile
        for tile, (longitude, latitude) in zip(tiles, world.tolist(), strict=True)
    ]
