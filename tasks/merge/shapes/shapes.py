"""Shapes as arrays, for compiled functions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tasks.merge.shapes.parts import slices
from tasks.request import Measure


@dataclass(frozen=True)
class Shapes:
    """n shapes, each either an upright box or a set of convex parts that do not overlap.

    Attributes:
        bounds: (n, 4) float64, x_min, y_min, x_max, y_max in pixels of the full image.
        areas: (n,) px².
        parts: (n + 1,) int64: the parts of shape i are parts[i] to parts[i + 1]; an upright box has
            no parts, its bounds are the shape.
        corners: (p + 1,) int64: the corners of part k are points[corners[k]:corners[k + 1]].
        points: (m, 2) float64 x, y, counter-clockwise with x to the right and y up. Parts are not
            closed and start at their leftmost corner; the parts of a shape are sorted by x.
    """

    bounds: NDArray[np.float64]
    areas: NDArray[np.float64]
    parts: NDArray[np.int64]
    corners: NDArray[np.int64]
    points: NDArray[np.float64]

    def __len__(self) -> int:
        """Number of shapes."""
        return len(self.bounds)

    @cached_property
    def upright(self) -> bool:
        """Whether all shapes are upright boxes."""
        return not len(self.points)

    @classmethod
    def boxes(cls, boxes: ArrayLike) -> Shapes:
        """Upright boxes, (n, 4), as shapes."""
        bounds = np.ascontiguousarray(boxes, np.float64).reshape(-1, 4)
        areas = (bounds[:, 2] - bounds[:, 0]) * (bounds[:, 3] - bounds[:, 1])
        no_parts = np.zeros(len(bounds) + 1, np.int64)
        return cls(bounds, areas, no_parts, np.zeros(1, np.int64), np.empty((0, 2)))

    def take(self, indices: NDArray[np.int64]) -> Shapes:
        """The shapes at some indices, in that order."""
        parts, ends = slices(self.parts, indices)
        points, corners = slices(self.corners, parts)
        return Shapes(self.bounds[indices], self.areas[indices], ends, corners, self.points[points])

    def least_common_side(self, threshold: float, measure: Measure = Measure.IOU) -> float:
        """Lower bound s on the sides that two shapes share if their IoU is above a threshold t.

        Their bounds share more than s of the larger width, and more than s of the larger height.
        For upright boxes, s = t. A convex shape has at most 2s − s² of its area within s of its
        width (a triangle reaches that), so s = 1 − √(1 − t). For other shapes, and for another
        measure than IoU, there is no bound.
        """
        if measure is not Measure.IOU:
            return 0.0
        if self.upright:
            return threshold
        if np.diff(self.parts).max() > 1:
            return 0.0
        return 1 - float(np.sqrt(1 - threshold))

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """The arrays as the compiled functions of `tasks.merge.shapes.overlap` take them."""
        return self.bounds, self.areas, self.parts, self.corners, self.points
