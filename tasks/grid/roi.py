"""The region of interest in pixels of the full image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.windows import Window


@dataclass(frozen=True)
class RegionOfInterest:
    """A request's polygon in pixels of the full image.

    Attributes:
        area: The polygon or multipolygon, holes and all.
    """

    area: shapely.Geometry

    def wants(self, window: Window) -> bool:
        """Whether any part of a window lies inside."""
        left, top = window.col_off, window.row_off
        box = shapely.box(left, top, left + window.width, top + window.height)
        return bool(shapely.relate_pattern(self.area, box, "T********"))

    def contains(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of (n, 2) pixel positions lie inside or on the edge."""
        inside: NDArray[np.bool_] = shapely.intersects_xy(self.area, *points.T)
        return inside
