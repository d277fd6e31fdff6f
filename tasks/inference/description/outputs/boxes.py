"""What every family does with boxes: corners, scores that are numbers, the best of many."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.errors import AnswerError
from tasks.merge.nms import nms

_FAR = 1e9  # pixels: no input is so large, and the areas of such boxes are no numbers

BoxFormat = Literal["xyxy", "cxcywh", "xywh"]


def corners(boxes: NDArray[Any], form: BoxFormat) -> NDArray[np.float64]:
    """Boxes (…, 4) as x_min, y_min, x_max, y_max.

    Args:
        boxes: Corners (`xyxy`), centre and size (`cxcywh`), or the upper left corner and size
            (`xywh`).
        form: Which of them.
    """
    boxes = np.asarray(boxes, np.float64)
    if form == "xyxy":
        return boxes
    first, size = boxes[..., :2], boxes[..., 2:]
    with np.errstate(over="ignore", invalid="ignore"):  # such boxes are the answer's to refuse
        if form == "cxcywh":
            first = first - size / 2
        return np.concatenate([first, first + size], axis=-1)


def numbers(scores: NDArray[Any]) -> NDArray[Any]:
    """Scores, of which none is NaN: nothing is found where nothing can be compared.

    Raises:
        AnswerError: One is.
    """
    if np.isnan(scores).any():
        raise AnswerError(
            f"{int(np.isnan(scores).sum())} of the model's {scores.size} scores are NaN: check "
            "mlm:input[0].value_scaling, or run the model in float32."
        )
    return scores


def suppressed(
    boxes: NDArray[np.float64],
    scores: NDArray[Any],
    classes: NDArray[np.int64],
    iou_threshold: float,
) -> NDArray[np.int64]:
    """Indices of the boxes that class-wise NMS keeps, best first.

    Boxes that are not finite overlap nothing; they come last, for the answer's check to count.
    """
    sound = (np.abs(boxes) < _FAR).all(axis=1)
    best = np.flatnonzero(sound)
    best = best[nms(boxes[best], scores[best], classes[best], iou_threshold)]
    best = best[np.argsort(-scores[best], kind="stable")]
    return np.concatenate([best, np.flatnonzero(~sound)])
