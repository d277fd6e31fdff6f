"""YOLOX (Ge et al., 2021, arXiv:2107.08430): box, objectness and class scores per grid cell."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat

from tasks.errors import AnswerError
from tasks.inference.description.detectors.boxes import check_scores, suppress, to_corners
from tasks.inference.description.detectors.detector import Detector
from tasks.inference.description.head import Fraction, Size, Strides, Tensors
from tasks.inference.description.mlm import Class
from tasks.inference.endpoint import Boxes


class Yolox(Detector):
    """A YOLOX head: (batch, cells, 5 + classes), centre, size, objectness, class scores.

    Attributes:
        decoded: Whether centres and sizes are in pixels (exported with `--decode_in_inference`).
            Otherwise, in units of the cell's stride, the centre is an offset from the cell and the
            size a logarithm.
        nms_iou_threshold: A box whose IoU with a better box of its class is higher is dropped.
    """

    type: Literal["yolox"]
    decoded: bool = False
    nms_iou_threshold: Fraction = 0.45
    pad_value: FiniteFloat = 114.0
    strides: Strides = (8, 16, 32)

    def decode(self, tensors: Tensors, classes: Sequence[Class], size: Size) -> list[Boxes]:
        """Decode as YOLOX's own `demo_postprocess` and `multiclass_nms` do."""
        predictions = tensors["predictions"]
        corners, strides = _cells(size, self.strides)
        cells = predictions.shape[1] if self.decoded else len(strides)
        if predictions.shape[1:] != (cells, 5 + len(classes)):
            raise AnswerError(
                f"The model's output has the shape {predictions.shape[1:]}, and a YOLOX head for "
                f"{len(classes)} classes and an input of {size[0]} × {size[1]} has "
                f"{(cells, 5 + len(classes))}; check classification:classes and "
                "swath:detector.strides."
            )
        names = [one.name for one in classes]
        return [self._decode_tile(tile, corners, strides, names) for tile in predictions]

    def _decode_tile(
        self,
        predictions: NDArray[Any],
        corners: NDArray[np.float64],
        strides: NDArray[np.float64],
        names: list[str],
    ) -> Boxes:
        # a score is objectness times class score, so it is at most the objectness
        cells = np.flatnonzero(check_scores(predictions[:, 4]) >= self.score_threshold)
        rows = predictions[cells].astype(np.float64)
        scores = check_scores(rows[:, 4:5] * rows[:, 5:])
        classes = scores.argmax(axis=1)
        scores = scores[np.arange(len(rows)), classes]
        found = np.flatnonzero(scores >= self.score_threshold)
        boxes, cells = rows[found, :4], cells[found]
        if not self.decoded:
            with np.errstate(over="ignore"):  # as in `to_corners`
                boxes[:, :2] = (boxes[:, :2] + corners[cells]) * strides[cells]
                boxes[:, 2:] = np.exp(boxes[:, 2:]) * strides[cells]
        boxes, scores, classes = to_corners(boxes, "cxcywh"), scores[found], classes[found]
        kept = suppress(boxes, scores, classes, self.nms_iou_threshold)
        return Boxes(boxes[kept], scores[kept], classes[kept], names)


@lru_cache(8)
def _cells(size: Size, strides: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each cell: upper left corner in units of its stride (cells, 2), and stride (cells, 1)."""
    corner, side = [], []
    for stride in strides:
        columns, rows = np.meshgrid(np.arange(size[0] // stride), np.arange(size[1] // stride))
        corner.append(np.column_stack([columns.ravel(), rows.ravel()]))
        side.append(np.full((rows.size, 1), stride))
    return np.concatenate(corner).astype(np.float64), np.concatenate(side).astype(np.float64)
