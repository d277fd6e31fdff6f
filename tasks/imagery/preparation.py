"""What models get of an image's tiles: pixels without data hold the fill value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.grid.tiles import Tile
from tasks.imagery.image import Image
from tasks.imagery.reading.tile_pixels import TilePixels
from tasks.imagery.reading.validity import differs


@dataclass(frozen=True)
class TilePreparation:
    """Changes the tiles of an image in the way in which every endpoint gets them.

    Attributes:
        source: The image.
        fill: Value of pixels without data, in every band but alpha.
    """

    source: Image
    fill: float = 0

    @cached_property
    def image(self) -> Image:
        """The image that the prepared tiles are of."""
        if self.source.nodata is None or self.source.nodata == self.fill:
            return self.source
        return replace(self.source, nodata=None, has_mask=True)

    def __call__(self, tile: TilePixels) -> TilePixels:
        """A tile whose pixels without data hold the fill value.

        These are the pixels that nodata, alpha or a mask declare, and those that are NaN in every
        band. In a pixel with data, NaN is filled too, and so is the nodata value of signed integers
        and floats. In a band of unsigned integers it may be a measured value, such as 0 or 255 of a
        colour.
        """
        if not self.source.masked and tile.dtype.kind != "f":
            return tile
        pixels, valid = tile.pixels, tile.valid
        bands = [band for band in range(len(pixels)) if band + 1 != self.source.alpha]
        holes = [self._holes(pixels[band]) for band in bands]
        empty = np.logical_and.reduce(holes)
        if valid is not None:
            empty |= ~valid
        mask = ~empty if empty.any() else None
        if mask is None and not any(each.any() for each in holes):
            return TilePixels(tile.tile, tile.parts, None)
        filled = pixels.copy()
        for band, own in zip(bands, holes, strict=True):
            filled[band][empty | own] = self.fill
        return TilePixels(tile.tile, filled, mask)

    def sent(self, tile: Tile) -> Tile:
        """The tile in whose pixels the answer for a tile is."""
        return tile

    def in_image(self, found: pa.Table | None, tile: Tile) -> pa.Table | None:  # noqa: ARG002 - for others
        """Detections in pixels of the image, from those in pixels of a tile that was sent."""
        return found

    def _holes(self, band: NDArray[Any]) -> NDArray[np.bool_]:
        """(rows, columns) True for values of a band that cannot be measured ones."""
        nodata, kind = self.source.nodata, band.dtype.kind
        holes = np.isnan(band) if kind == "f" else np.zeros(band.shape, np.bool_)
        return holes | ~differs(band, nodata) if nodata is not None and kind in "if" else holes
