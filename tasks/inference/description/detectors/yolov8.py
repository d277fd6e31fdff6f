"""YOLOv8 and later, and RT-DETR, of Ultralytics: a box and class scores, without objectness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat

from tasks.errors import AnswerError
from tasks.inference.description.detectors.boxes import (
    check_scores,
    class_indices,
    suppress,
    to_corners,
)
from tasks.inference.description.detectors.detector import Detector
from tasks.inference.description.head import Fraction, Size, Strides, Tensors
from tasks.inference.description.mlm import Class
from tasks.inference.endpoint import Boxes


class YoloV8(Detector):
    """A YOLOv8 head: (batch, 4 + classes, cells), or transposed.

    Each cell has a box (centre and size in pixels) and a score per class.

    Attributes:
        end2end: Whether the export includes NMS. The output is then (batch, boxes, 6): corners in
            pixels, score, class.
        normalized: Whether boxes are in fractions of the input's size, not in pixels.
        nms_iou_threshold: A box whose IoU with a better box of its class is higher is dropped.
    """

    type: Literal["yolov8"]
    end2end: bool = False
    normalized: bool = False
    nms_iou_threshold: Fraction = 0.45
    pad_value: FiniteFloat = 114.0
    strides: Strides = (8, 16, 32)

    def decode(self, tensors: Tensors, classes: Sequence[Class], size: Size) -> list[Boxes]:
        """Decode as Ultralytics' `non_max_suppression` does with one class per box."""
        predictions = tensors["predictions"]
        columns = 6 if self.end2end else 4 + len(classes)
        if not self.end2end and predictions.shape[1] == columns:
            predictions = predictions.transpose(0, 2, 1)
        if predictions.shape[2] != columns:
            raise AnswerError(
                f"The model's output has the shape {predictions.shape[1:]}, and for "
                f"{len(classes)} classes it must have {columns} numbers per box; check "
                "classification:classes and swath:detector.end2end."
            )
        decode_tile = self._decode_end2end if self.end2end else self._decode_raw
        unit = np.array(size * 2, np.float64) if self.normalized else 1.0
        return [decode_tile(tile, classes, unit) for tile in predictions]

    def _decode_raw(
        self, predictions: NDArray[Any], classes: Sequence[Class], unit: NDArray[Any] | float
    ) -> Boxes:
        best = check_scores(predictions[:, 4:].max(axis=1))
        found = np.flatnonzero(best >= self.score_threshold)
        boxes = to_corners(predictions[found, :4] * unit, "cxcywh")
        scores, labels = best[found], predictions[found, 4:].argmax(axis=1)
        kept = suppress(boxes, scores, labels, self.nms_iou_threshold)
        return Boxes(boxes[kept], scores[kept], labels[kept], [one.name for one in classes])

    def _decode_end2end(
        self, predictions: NDArray[Any], classes: Sequence[Class], unit: NDArray[Any] | float
    ) -> Boxes:
        scores = check_scores(predictions[:, 4])
        found = np.flatnonzero(scores >= self.score_threshold)
        labels = class_indices(predictions[found, 5], classes)
        boxes = to_corners(predictions[found, :4] * unit, "xyxy")
        return Boxes(boxes, scores[found], labels, [one.name for one in classes])
