"""Functions for several families of detectors: box formats, class indices, NaN scores, NMS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.errors import AnswerError
from tasks.inference.description.mlm import Class
from tasks.merge.algorithms.nms import nms

_MAX_COORDINATE = 1e9  # pixels; no input is that large, and areas of larger boxes overflow

BoxFormat = Literal["xyxy", "cxcywh", "xywh"]


def to_corners(boxes: NDArray[Any], box_format: BoxFormat) -> NDArray[np.float64]:
    """Convert boxes (…, 4) to x_min, y_min, x_max, y_max.

    Args:
        boxes: Boxes (…, 4) in any unit.
        box_format: Corners (`xyxy`), centre and size (`cxcywh`), or upper left corner and size
            (`xywh`).
    """
    boxes = np.asarray(boxes, np.float64)
    if box_format == "xyxy":
        return boxes
    first, size = boxes[..., :2], boxes[..., 2:]
    with np.errstate(over="ignore", invalid="ignore"):  # such boxes are rejected with the answer
        if box_format == "cxcywh":
            first = first - size / 2
        return np.concatenate([first, first + size], axis=-1)


def class_indices(labels: NDArray[Any], classes: Sequence[Class]) -> NDArray[np.int64]:
    """The index in `classes` of each label.

    Args:
        labels: (n,) values of classes, in any numeric dtype.
        classes: The classes, in the order of their values.

    Raises:
        AnswerError: No class has a label's value.
    """
    values = np.array([one.value for one in classes], np.float64)
    indices = np.searchsorted(values, labels).clip(0, len(values) - 1)
    unknown = values[indices] != labels
    if unknown.any():
        raise AnswerError(
            f"The model answered with class {labels[unknown][0]}, which is not in "
            "classification:classes; add it there with its value."
        )
    return indices.astype(np.int64)


def check_scores(scores: NDArray[Any]) -> NDArray[Any]:
    """Return the scores, of any shape, after a check that they are not NaN.

    Raises:
        AnswerError: A score is NaN. The whole answer is then refused: comparisons with NaN are
            False, so it would look as if the model had found nothing.
    """
    if np.isnan(scores).any():
        raise AnswerError(
            f"{int(np.isnan(scores).sum())} of the model's {scores.size} scores are NaN: check "
            "mlm:input[0].value_scaling, or run the model in float32."
        )
    return scores


def suppress(
    boxes: NDArray[np.float64],
    scores: NDArray[Any],
    classes: NDArray[np.int64],
    iou_threshold: float,
) -> NDArray[np.int64]:
    """Indices of the boxes that class-wise NMS keeps, in descending order of score.

    Boxes that are not finite, or far outside any input, are kept and come last, so that the check
    of the answer counts them as malformed.

    Args:
        boxes: (n, 4) x_min, y_min, x_max, y_max in pixels of the input.
        scores: (n,) scores in any floating dtype.
        classes: (n,) class indices.
        iou_threshold: A box whose IoU with a better box of its class is higher is dropped.
    """
    usable = (np.abs(boxes) < _MAX_COORDINATE).all(axis=1)
    best = np.flatnonzero(usable)
    best = best[nms(boxes[best], scores[best], classes[best], iou_threshold)]
    best = best[np.argsort(-scores[best], kind="stable")]
    return np.concatenate([best, np.flatnonzero(~usable)])
