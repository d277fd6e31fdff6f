"""The result of reading a tile: its pixels, or that it is absent or could not be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.grid.tiles import Tile

_ROWS = 32  # whose validity is decided at a time: most tiles have a valid pixel in the first ones


class TilePixels:
    """The pixels of a tile, as they were read: in parts that follow each other from the top down.

    Attributes:
        tile: The tile.
        parts: Each (bands, rows, columns) in the pixel type of the image, alpha band included;
            views that are not contiguous.
    """

    __slots__ = ("_by_value", "_mask", "parts", "tile")

    def __init__(
        self,
        tile: Tile,
        pixels: NDArray[Any] | Sequence[NDArray[Any]],
        mask: NDArray[np.bool_] | None,
        by_value: Callable[[NDArray[Any]], NDArray[np.bool_]] | None = None,
    ) -> None:
        """Hold views, or arrays that do not change.

        Args:
            tile: The tile.
            pixels: Its pixels, or the parts of them.
            mask: (rows, columns), False for pixels without data; None if there is no mask.
            by_value: Decides which of an array of pixels hold data, as `valid_by_value`; None if
                their values do not decide it.
        """
        self.tile = tile
        self.parts = (pixels,) if isinstance(pixels, np.ndarray) else tuple(pixels)
        self._mask, self._by_value = mask, by_value

    @property
    def pixels(self) -> NDArray[Any]:
        """(bands, rows, columns) in the pixel type of the image; may not be contiguous."""
        if len(self.parts) > 1:
            self.parts = (np.concatenate(self.parts, axis=1),)
        return self.parts[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Bands, rows and columns."""
        bands, _, columns = self.parts[0].shape
        return bands, sum(part.shape[1] for part in self.parts), columns

    @property
    def dtype(self) -> np.dtype[Any]:
        """The pixel type of the image."""
        return self.parts[0].dtype

    @property
    def valid(self) -> NDArray[np.bool_] | None:
        """(rows, columns), False for pixels without data; None if all pixels are valid."""
        return self._by_value(self.pixels) if self._by_value else self._mask

    def of(self, tile: Tile) -> TilePixels:
        """The same pixels, as those of another tile."""
        return TilePixels(tile, self.parts, self._mask, self._by_value)

    @property
    def blank(self) -> bool:
        """Whether no pixel holds data."""
        if self._by_value is None:
            return self._mask is not None and not self._mask.any()
        rows = (
            part[:, row : row + _ROWS]
            for part in self.parts
            for row in range(0, part.shape[1], _ROWS)
        )
        return not any(self._by_value(few).any() for few in rows)


@dataclass(frozen=True, slots=True)
class UnreadTile:
    """A tile that could not be read.

    Attributes:
        tile: The tile.
        reason: The reason for the last failed attempt.
        unreachable: Whether the file could not be fetched, so that a later attempt may succeed;
            otherwise it was fetched and is damaged.
    """

    tile: Tile
    reason: str
    unreachable: bool = False


@dataclass(frozen=True, slots=True)
class AbsentTile:
    """A tile of a sparse file that stores no block of it.

    Attributes:
        tile: The tile.
    """

    tile: Tile


ReadTile = TilePixels | AbsentTile | UnreadTile
