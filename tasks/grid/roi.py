"""The region of interest in pixels of the full image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.windows import Window

_FEW_PIXELS = 1024  # of a window that is not divided further to count them
_INTERIORS_MEET = "T********"  # DE-9IM: more than the boundaries touch


@dataclass(frozen=True)
class RegionOfInterest:
    """The polygon of a request in pixels of the full image.

    Attributes:
        area: The polygon or multipolygon, with its holes.
    """

    area: shapely.Geometry

    def meets(self, windows: Sequence[Window]) -> NDArray[np.bool_]:
        """Which windows share an area with the polygon.

        Args:
            windows: n windows of the full image.

        Returns:
            (n,) booleans; False where only the boundaries touch.
        """
        corners = np.array([(w.col_off, w.row_off, w.width, w.height) for w in windows], np.float64)
        left, top, width, height = corners.reshape(-1, 4).T
        boxes = shapely.box(left, top, left + width, top + height)
        meets: NDArray[np.bool_] = shapely.relate_pattern(self.area, boxes, _INTERIORS_MEET)
        return meets

    def contains(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points lie inside the polygon or on its boundary.

        Args:
            points: (n, 2) x, y in pixels of the full image.
        """
        inside: NDArray[np.bool_] = shapely.intersects_xy(self.area, *points.T)
        return inside

    def pixels(self, window: Window) -> NDArray[np.bool_]:
        """(height, width) whether the centre of each pixel of a window is inside."""
        x = window.col_off + np.arange(window.width) + 0.5
        y = window.row_off + np.arange(window.height) + 0.5
        if shapely.covers(self.area, shapely.box(x[0], y[0], x[-1], y[-1])):
            return np.ones((len(y), len(x)), bool)
        shapely.prepare(self.area)
        points = np.stack([each.ravel() for each in np.meshgrid(x, y)], axis=1)
        return self.contains(points).reshape(len(y), len(x))

    def count(self, window: Window) -> int:
        """How many pixels of a window have their centre inside.

        A window that the boundary crosses is halved until few pixels are left.
        """
        shapely.prepare(self.area)
        inside, windows = 0, [window]
        while windows:
            part = windows.pop()
            x, y, width, height = part.col_off, part.row_off, part.width, part.height
            box = shapely.box(x, y, x + width, y + height)
            if shapely.covers(self.area, box):
                inside += width * height
            elif shapely.disjoint(self.area, box):
                continue
            elif width * height <= _FEW_PIXELS:
                inside += int(self.pixels(part).sum())
            elif width > height:
                left = width // 2
                windows.append(Window(x, y, left, height))
                windows.append(Window(x + left, y, width - left, height))
            else:
                upper = height // 2
                windows.append(Window(x, y, width, upper))
                windows.append(Window(x, y + upper, width, height - upper))
        return inside
