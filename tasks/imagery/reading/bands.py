"""Strips of an image in memory, in bands that the next strip may contain too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.grid.tiles import Tile
from tasks.imagery.reading.tile_pixels import TilePixels
from tasks.imagery.reading.windows import intersection, slices


@dataclass(frozen=True, slots=True)
class Band:
    """The pixels of a window of the image.

    Attributes:
        window: The window in pixels of the full image.
        pixels: (bands, rows, columns) in the pixel type of the image.
        mask: (rows, columns), False for pixels without data; None unless a mask decides that.
    """

    window: Window
    pixels: NDArray[Any]
    mask: NDArray[np.bool_] | None

    @property
    def bottom(self) -> int:
        """One after the last row, in pixels of the full image."""
        return int(self.window.row_off + self.window.height)

    def copy_overlap(self, old: Band) -> None:
        """Copy the pixels shared with an older band."""
        if window := intersection(self.window, old.window):
            here, there = slices(window, self.window), slices(window, old.window)
            self.pixels[:, *here] = old.pixels[:, *there]
            if self.mask is not None and old.mask is not None:
                self.mask[here] = old.mask[there]


@dataclass(frozen=True, slots=True)
class Strip:
    """A window of the image in bands, from the top down; the next strip may contain them too.

    Attributes:
        window: The window in pixels of the full image.
        bands: Each at least as wide as the window.
        by_value: As an argument of `TilePixels`.
    """

    window: Window
    bands: list[Band]
    by_value: Callable[[NDArray[Any]], NDArray[np.bool_]] | None

    def tile(self, tile: Tile) -> TilePixels:
        """The pixels of a tile inside the strip, as views."""
        inside = [(band, intersection(tile.window, band.window)) for band in self.bands]
        parts = [(band, slices(window, band.window)) for band, window in inside if window]
        masks = [band.mask[here] for band, here in parts if band.mask is not None]
        mask = np.concatenate(masks) if masks else None
        return TilePixels(
            tile, [band.pixels[:, *here] for band, here in parts], mask, self.by_value
        )

    def contains_columns(self, window: Window) -> bool:
        """Whether it has all columns of a window, and begins no lower."""
        own = self.window
        return bool(
            own.row_off <= window.row_off
            and own.col_off <= window.col_off
            and window.col_off + window.width <= own.col_off + own.width
        )

    def columns_shared(self, window: Window) -> tuple[int, int] | None:
        """The first column shared with a window and one after the last; None if no pixel is."""
        shared = intersection(window, self.window)
        if shared is None or self.window.row_off > window.row_off:
            return None
        return shared.col_off, shared.col_off + shared.width
