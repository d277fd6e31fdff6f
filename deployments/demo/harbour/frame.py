"""The harbour's coordinate system: u along the coast and v seaward, as shares of the image's side.

Its origin is on the shore line, and it is rotated so that the coast runs across the image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TURN = np.deg2rad(-48)  # angle from +x to the direction of u, clockwise as seen on the image
ORIGIN = np.array([0.40, 0.38])  # of the coordinate system, as shares of the side
ALONG = np.array([np.cos(TURN), np.sin(TURN)])
SEAWARD = np.array([-np.sin(TURN), np.cos(TURN)])


def to_pixels(size: int, u: float, v: float) -> NDArray[np.float64]:
    """Full-image pixels (2,) x, y of a point in the harbour's coordinate system.

    Args:
        size: Pixels of the image's side.
        u: Coordinate along the coast, as a share of the side.
        v: Coordinate seaward, as a share of the side.
    """
    return size * (ORIGIN + u * ALONG + v * SEAWARD)
