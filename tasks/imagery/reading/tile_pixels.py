"""What reading a tile gives: its pixels, or why there are none."""

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
        pixels: (bands, rows, columns) in the image's own type, every band, alpha included; a view,
            not contiguous.
        valid: (rows, columns), False where there is no data; None where all of it is.
    """

    tile: Tile
    pixels: NDArray[Any]
    valid: NDArray[np.bool_] | None

    @property
    def blank(self) -> bool:
        """Whether it holds nothing but nodata."""
        return self.valid is not None and not self.valid.any()


@dataclass(frozen=True, slots=True)
class UnreadTile:
    """A tile that could not be read.

    Attributes:
        tile: The tile.
        reason: Why, after every attempt.
    """

    tile: Tile
    reason: str


@dataclass(frozen=True, slots=True)
class AbsentTile:
    """A tile that the file holds no block of: nothing was ever written there.

    Attributes:
        tile: The tile.
    """

    tile: Tile


ReadTile = TilePixels | AbsentTile | UnreadTile
