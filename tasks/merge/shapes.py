"""What detections show of their objects, such that any two of them can be laid over each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Shapes:
    """n shapes, each an upright box or a surface of convex parts that do not overlap.

    Attributes:
        bounds: (n, 4) float64, x_min, y_min, x_max, y_max in pixels of the full image.
        areas: (n,) px².
        parts: (n + 1,) int64: the parts of shape i are parts[i] to parts[i + 1]; none where it is
            the upright box of its bounds.
        corners: (p + 1,) int64: the corners of part k are points[corners[k]:corners[k + 1]].
        points: (m, 2) float64 x, y, counter-clockwise in x right, y up; parts are not closed.
    """

    bounds: NDArray[np.float64]
    areas: NDArray[np.float64]
    parts: NDArray[np.int64]
    corners: NDArray[np.int64]
    points: NDArray[np.float64]

    def __len__(self) -> int:
        """Shapes."""
        return len(self.bounds)

    @cached_property
    def upright(self) -> bool:
        """Whether all are upright boxes."""
        return not len(self.points)

    @classmethod
    def boxes(cls, boxes: ArrayLike) -> Shapes:
        """Upright boxes as shapes."""
        bounds = np.ascontiguousarray(boxes, np.float64).reshape(-1, 4)
        areas = (bounds[:, 2] - bounds[:, 0]) * (bounds[:, 3] - bounds[:, 1])
        none = np.zeros(len(bounds) + 1, np.int64)
        return cls(bounds, areas, none, np.zeros(1, np.int64), np.empty((0, 2)))

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """The arrays, as the compiled functions of `tasks.merge.overlap` take them."""
        return self.bounds, self.areas, self.parts, self.corners, self.points
