"""What models get of an image's tiles: the colours that it shows, and a fill value for no data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.grid.tiles import Tile
from tasks.imagery.display import look_up
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
        source = self.source
        if source.palette:
            return replace(
                source,
                bands=3,
                dtype="uint8",
                colours=("red", "green", "blue"),
                descriptions=(),
                scales=(),
                offsets=(),
                palette=None,
                nodata=None,
                has_mask=source.masked,
            )
        if source.black:
            source = replace(source, colours=("gray", *source.colours[1:]), black=0)
        elif source.nodata == self.fill:
            return source
        return source if source.nodata is None else replace(source, nodata=None, has_mask=True)

    def __call__(self, tile: TilePixels) -> TilePixels:
        """A tile in the colours that it shows, whose pixels without data hold the fill value.

        Values of a colour table become red, green and blue, and those of which 0 is white are
        inverted. Without data are the pixels that nodata, alpha or a mask declare, and those that
        are NaN or infinite in every band. In a pixel with data these are filled too, as a
        convolution would spread them over the tile, and so is the nodata value of signed integers
        and floats. In a band of unsigned integers it may be a measured value, such as 0 or 255 of a
        colour.
        """
        tile = self._shown(tile)
        if not self.source.masked and tile.dtype.kind not in "fc":
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

    def _shown(self, tile: TilePixels) -> TilePixels:
        """A tile in the colours that it shows; its validity is that of the values it stores."""
        palette, black = self.source.palette, self.source.black
        if palette:
            colours = np.moveaxis(look_up(tile.pixels[0], palette), -1, 0)
            return TilePixels(tile.tile, colours, tile.valid)
        if black:
            shown = tile.pixels.copy()
            shown[0] = black - shown[0]
            return TilePixels(tile.tile, shown, tile.valid)
        return tile

    def _holes(self, band: NDArray[Any]) -> NDArray[np.bool_]:
        """(rows, columns) True for values of a band that cannot be measured ones."""
        nodata, kind = self.source.nodata, band.dtype.kind
        holes = np.zeros(band.shape, np.bool_) if kind in "iu" else ~np.isfinite(band)
        return holes | ~differs(band, nodata) if nodata is not None and kind in "if" else holes
