"""Boxes without an area, such as points: equal ones are one detection.

No algorithm recognizes two of them as one object: their intersection over union is 0 / 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def repeated(
    boxes: NDArray[np.float64], labels: NDArray[np.int64], scores: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Find boxes that repeat an equal box of the same label.

    Of equal boxes, the one with the highest score is not a repetition; ties: the lower index.

    Args:
        boxes: (n, 4) x_min, y_min, x_max, y_max in pixels.
        labels: (n,) boxes of different labels never count as equal.
        scores: (n,) higher is better.

    Returns:
        (n,) True for repetitions.
    """
    order = np.lexsort((-scores, *boxes.T, labels))
    one, following = order[:-1], order[1:]
    equal = (boxes[one] == boxes[following]).all(axis=1) & (labels[one] == labels[following])
    repetitions = np.zeros(len(boxes), np.bool_)
    repetitions[following[equal]] = True
    return repetitions
