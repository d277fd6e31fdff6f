"""The resolution at which tiles are read and sent, and the grid that follows from it."""

from __future__ import annotations

from math import ceil

import numpy as np

from tasks.errors import RequestError
from tasks.grid.tiles import Grid
from tasks.imagery import Image, Resolution, source_of
from tasks.imagery.georeference.resampled import metres_per_pixel
from tasks.request import Request

_MAX_FACTOR = 64.0  # by which pixels may become larger or smaller


def grid_of(request: Request, image: Image) -> tuple[Grid, Resolution | None]:
    """The tiles of an image, and the pixels in which they are sent if not its own.

    Args:
        request: The message.
        image: One of its images.

    Raises:
        RequestError: The image cannot be read at the resolution that the request asks for.
        ImageError: Its overview cannot be read.
    """
    side, overlap = request.tile_size, request.tile_overlap
    if request.image_resolution is None:
        return Grid(image.width, image.height, side, overlap), None
    metres = _metres(request, image)
    factor = request.image_resolution / metres
    tile = max(1, round(side * factor))
    grid = Grid(image.width, image.height, tile, min(ceil(overlap * factor), tile - 1))
    window = grid.tile_width, grid.tile_height
    width, height = (side if each == tile else max(1, round(each / factor)) for each in window)
    if (width, height) == window:
        return grid, None
    source = source_of(image, factor, request.image_read_role)
    return grid, Resolution(image, source, window, (width, height), metres)


def _metres(request: Request, image: Image) -> float:
    """Metres along the side of a pixel of an image that can be resampled."""
    wanted = request.image_resolution
    assert wanted is not None
    metres = metres_per_pixel(image.georeference, image.size)
    if metres is None:
        raise RequestError(
            f"imageResolution: {image.url} has no georeference, so the size of its pixels is not "
            "known; leave it out."
        )
    if np.dtype(image.dtype).kind == "c":
        raise RequestError(
            f"imageResolution: the pixels of {image.url} are complex ({image.dtype}), and only "
            "real ones are resampled; leave it out."
        )
    if not 1 / _MAX_FACTOR <= wanted / metres <= _MAX_FACTOR:
        raise RequestError(
            f"imageResolution: {wanted:g} m a pixel is {wanted / metres:.3g} times that of "
            f"{image.url}, {metres:.3g} m; give metres from {metres / _MAX_FACTOR:.3g} to "
            f"{metres * _MAX_FACTOR:.3g}."
        )
    return metres
