"""What is told about an oriented box beside its outline: its angle, its length and its width."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

ANGLE, LENGTH, WIDTH = "angle", "lengthPixels", "widthPixels"
"""Properties of an oriented box.

The angle is that of the longer sides, in degrees clockwise from the image's up, from 0 up to 180,
as a box has no front. Length and width are those of the longer and of the shorter sides in pixels.
"""

DECIMALS = 3  # of all properties
_SQUARE = 1e-6  # share by which the sides of a square may differ
_POLYGONAL = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
_POINTS = 5  # of a rectangle's closed ring

Floats = NDArray[np.float64]


def measure(corners: Floats) -> dict[str, Floats]:
    """The properties of oriented boxes, each (n,).

    Args:
        corners: (n, 4, 2) from `corners_of`.
    """
    longer, shorter = _side(corners, 0), _side(corners, 1)
    angles = np.degrees(np.arctan2(longer[:, 0], -longer[:, 1]))
    return {
        ANGLE: (angles % 180).round(DECIMALS) % 180,
        LENGTH: np.hypot(*longer.T).round(DECIMALS),
        WIDTH: np.hypot(*shorter.T).round(DECIMALS),
    }


def corners_of(outlines: NDArray[np.object_]) -> Floats:
    """(n, 4, 2) the corners of oriented boxes in order, a longer side first.

    Args:
        outlines: (n,) polygons in pixels. Those with other than four corners, such as the union of
            several boxes, count as the smallest rectangle around them. What is no polygon, or
            empty, has no corners: NaN.
    """
    corners: Floats = np.full((len(outlines), 4, 2), np.nan)
    polygonal = np.isin(shapely.get_type_id(outlines), _POLYGONAL)
    boxes = outlines.copy()
    boxes[~polygonal | shapely.is_empty(outlines)] = None
    other = shapely.get_num_coordinates(boxes) != _POINTS
    boxes[other] = shapely.minimum_rotated_rectangle(boxes[other])
    rows = np.flatnonzero(shapely.get_num_coordinates(boxes) == _POINTS)
    corners[rows] = shapely.get_coordinates(boxes[rows]).reshape(-1, _POINTS, 2)[:, :4]
    first, second = (np.hypot(*_side(corners, number).T) for number in (0, 1))
    turned = second > first * (1 + _SQUARE)
    corners[turned] = np.roll(corners[turned], -1, axis=1)
    return corners


def _side(corners: Floats, number: int) -> Floats:
    """(n, 2) from one corner to the next."""
    side: Floats = corners[:, number + 1] - corners[:, number]
    return side
