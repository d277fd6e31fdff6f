"""How long a pixel is on the ground in each part of an image, for the scale bar of its page."""

from __future__ import annotations

import logging

import numpy as np
import pyproj

from tasks.errors import SwathError
from tasks.imagery import Image

logger = logging.getLogger(__name__)

_PARTS = 9  # of the width and of the height
_EARTH = pyproj.Geod(ellps="WGS84")


def pixel_sizes(image: Image) -> list[list[float | None]]:
    """Metres on the ellipsoid from a pixel to the next one of its row, in parts of the image.

    Args:
        image: The image.

    Returns:
        A list for each row of parts; None where there is no position. Empty without a georeference.
    """
    if image.georeference is None:
        return []
    width, height = image.size
    middles = (np.arange(_PARTS) + 0.5) / _PARTS
    x, y = np.meshgrid(width * middles, height * middles)
    half = max(0.5, width / _PARTS / 16)
    try:
        left, right = (
            np.asarray(image.georeference.to_world(np.stack([ends.ravel(), y.ravel()], axis=1)))
            for ends in (x - half, x + half)
        )
    except (SwathError, OSError) as error:  # such as a terrain model that is gone
        logger.warning("The page has its scale in pixels: %s", error)
        return []
    sizes = np.full(_PARTS * _PARTS, np.nan)
    placed = np.isfinite(left).all(axis=1) & np.isfinite(right).all(axis=1)
    sizes[placed] = _EARTH.inv(*left[placed].T, *right[placed].T)[2]
    sizes /= 2 * half
    rows = sizes.reshape(_PARTS, _PARTS).tolist()
    return [[size if size > 0 else None for size in row] for row in rows]
