"""How much two shapes have in common: compiled functions of the arrays of `tasks.merge.shapes`.

Each takes `shapes`, the tuple of a `Shapes`' arrays, and the places of two of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled


@compiled
def intersection_area(shapes: Any, first: int, second: int) -> float:  # noqa: ANN401
    """Area that two shapes have in common, px²."""
    bounds = shapes[0]
    width = min(bounds[first, 2], bounds[second, 2]) - max(bounds[first, 0], bounds[second, 0])
    height = min(bounds[first, 3], bounds[second, 3]) - max(bounds[first, 1], bounds[second, 1])
    if not (width > 0 and height > 0):
        return 0.0
    area: float = width * height
    return area


@compiled
def iou(shapes: Any, first: int, second: int) -> float:  # noqa: ANN401
    """Intersection over union of two shapes; 0 where they have no area in common."""
    common = intersection_area(shapes, first, second)
    if not common > 0:
        return 0.0
    areas = shapes[1]
    ratio: float = common / (areas[first] + areas[second] - common)
    return ratio


@compiled
def intersection_areas(
    shapes: Any,  # noqa: ANN401
    firsts: NDArray[np.int64],
    seconds: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(k,) areas that pairs of shapes, at two (k,) arrays of places, have in common, px²."""
    areas = np.empty(len(firsts))
    for pair in range(len(firsts)):
        areas[pair] = intersection_area(shapes, firsts[pair], seconds[pair])
    return areas
