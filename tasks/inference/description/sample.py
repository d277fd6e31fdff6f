"""A tile to try a model with before there is any."""

from __future__ import annotations

import numpy as np
from rasterio.windows import Window

from tasks.grid.tiles import Tile
from tasks.imagery import Image, TilePixels


def blank_tile(image: Image, tile_size: int) -> TilePixels:
    """A tile as the image gives them, of zeros.

    Args:
        image: Whose bands, type and size it has.
        tile_size: Pixels of a tile's side, before an edge of the image cuts it.
    """
    width, height = min(tile_size, image.width), min(tile_size, image.height)
    pixels = np.zeros((image.bands, height, width), image.dtype)
    return TilePixels(Tile(0, Window(0, 0, width, height)), pixels, None)
