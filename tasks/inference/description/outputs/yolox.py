"""YOLOX (Ge et al., 2021, arXiv:2107.08430): a box, its objectness and its classes by grid cell."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat

from tasks.errors import AnswerError
from tasks.inference.description.mlm import Class
from tasks.inference.description.outputs.boxes import corners, numbers, suppressed
from tasks.inference.description.outputs.detector import (
    Detector,
    Share,
    Size,
    Strides,
    Tensors,
)
from tasks.inference.endpoint import Boxes


class Yolox(Detector):
    """A YOLOX head: (batch, cells, 5 + classes), centre, size, objectness, class scores.

    Attributes:
        decoded: Whether centres and sizes are in pixels (`--decode_in_inference`), in place of
            offsets and logarithms in cells.
        nms_iou_threshold: Boxes of a class that overlap a better one by more are left out.
    """

    type: Literal["yolox"]
    decoded: bool = False
    nms_iou_threshold: Share = 0.45
    pad_value: FiniteFloat = 114.0
    strides: Strides = (8, 16, 32)

    def decode(self, tensors: Tensors, classes: Sequence[Class], size: Size) -> list[Boxes]:
        """As its `demo_postprocess` and `multiclass_nms`."""
        predictions = tensors["predictions"]
        centres, strides = _cells(size, self.strides)
        cells = predictions.shape[1] if self.decoded else len(strides)
        if predictions.shape[1:] != (cells, 5 + len(classes)):
            raise AnswerError(
                f"The model's output is {predictions.shape[1:]} where a YOLOX head with "
                f"{len(classes)} classes and an input of {size[0]} × {size[1]} gives "
                f"{(cells, 5 + len(classes))}; check classification:classes and "
                "swath:detector.strides."
            )
        names = [one.name for one in classes]
        return [self._one(tile, centres, strides, names) for tile in predictions]

    def _one(
        self,
        predictions: NDArray[Any],
        centres: NDArray[np.float64],
        strides: NDArray[np.float64],
        names: list[str],
    ) -> Boxes:
        # a score is objectness times class score, which is at most 1
        near = np.flatnonzero(numbers(predictions[:, 4]) >= self.score_threshold)
        rows = predictions[near].astype(np.float64)
        scores = numbers(rows[:, 4:5] * rows[:, 5:])
        classes = scores.argmax(axis=1)
        scores = scores[np.arange(len(rows)), classes]
        found = np.flatnonzero(scores >= self.score_threshold)
        boxes, near = rows[found, :4], near[found]
        if not self.decoded:
            with np.errstate(over="ignore"):  # as in `corners`
                boxes[:, :2] = (boxes[:, :2] + centres[near]) * strides[near]
                boxes[:, 2:] = np.exp(boxes[:, 2:]) * strides[near]
        boxes, scores, classes = corners(boxes, "cxcywh"), scores[found], classes[found]
        kept = suppressed(boxes, scores, classes, self.nms_iou_threshold)
        return Boxes(boxes[kept], scores[kept], classes[kept], names)


@lru_cache(8)
def _cells(size: Size, strides: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corner (cells, 2) of each cell in cells, and its side (cells, 1) in pixels."""
    corner, side = [], []
    for stride in strides:
        columns, rows = np.meshgrid(np.arange(size[0] // stride), np.arange(size[1] // stride))
        corner.append(np.column_stack([columns.ravel(), rows.ravel()]))
        side.append(np.full((rows.size, 1), stride))
    return np.concatenate(corner).astype(np.float64), np.concatenate(side).astype(np.float64)
