"""The result of reading a tile: its pixels, or that it is absent or could not be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.grid.tiles import Tile


@dataclass(frozen=True, slots=True)
class TilePixels:
    """The pixels of a tile.

    Attributes:
        tile: The tile.
        pixels: (bands, rows, columns) in the pixel type of the image, alpha band included; a view
            that is not contiguous.
        valid: (rows, columns), False for pixels without data; None if all pixels are valid.
    """

    tile: Tile
    pixels: NDArray[Any]
    valid: NDArray[np.bool_] | None

    @property
    def blank(self) -> bool:
        """Whether no pixel holds data."""
        return self.valid is not None and not self.valid.any()


@dataclass(frozen=True, slots=True)
class UnreadTile:
    """A tile that could not be read.

    Attributes:
        tile: The tile.
        reason: The reason for the last failed attempt.
    """

    tile: Tile
    reason: str


@dataclass(frozen=True, slots=True)
class AbsentTile:
    """A tile of a sparse file that stores no block of it.

    Attributes:
        tile: The tile.
    """

    tile: Tile


ReadTile = TilePixels | AbsentTile | UnreadTile
