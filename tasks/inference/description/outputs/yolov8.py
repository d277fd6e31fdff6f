"""YOLOv8, YOLO11 and later of Ultralytics: a box and class scores, without objectness."""

from __future__ import annotations

from collections.abc import Sequence
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
from tasks.inference.description.outputs.labels import places
from tasks.inference.endpoint import Boxes


class YoloV8(Detector):
    """A YOLOv8 head: (batch, 4 + classes, cells), or transposed; centre and size in pixels.

    Attributes:
        end2end: Whether the export does NMS itself: (batch, boxes, 6), corners in pixels, score and
            class.
        nms_iou_threshold: Boxes of a class that overlap a better one by more are left out.
    """

    type: Literal["yolov8"]
    end2end: bool = False
    nms_iou_threshold: Share = 0.45
    pad_value: FiniteFloat = 114.0
    strides: Strides = (8, 16, 32)

    def decode(
        self,
        tensors: Tensors,
        classes: Sequence[Class],
        size: Size,  # noqa: ARG002 - its boxes are in pixels already
    ) -> list[Boxes]:
        """As its `non_max_suppression`, a class a box."""
        predictions = tensors["predictions"]
        columns = 6 if self.end2end else 4 + len(classes)
        if not self.end2end and predictions.shape[1] == columns:
            predictions = predictions.transpose(0, 2, 1)
        if predictions.shape[2] != columns:
            raise AnswerError(
                f"The model's output is {predictions.shape[1:]} where one of {len(classes)} "
                f"classes has {columns} numbers a box; check classification:classes and "
                "swath:detector.end2end."
            )
        read = self._finished if self.end2end else self._raw
        return [read(tile, classes) for tile in predictions]

    def _raw(self, predictions: NDArray[Any], classes: Sequence[Class]) -> Boxes:
        best = numbers(predictions[:, 4:].max(axis=1))
        found = np.flatnonzero(best >= self.score_threshold)
        boxes = corners(predictions[found, :4], "cxcywh")
        scores, labels = best[found], predictions[found, 4:].argmax(axis=1)
        kept = suppressed(boxes, scores, labels, self.nms_iou_threshold)
        return Boxes(boxes[kept], scores[kept], labels[kept], [one.name for one in classes])

    def _finished(self, predictions: NDArray[Any], classes: Sequence[Class]) -> Boxes:
        scores = numbers(predictions[:, 4])
        found = np.flatnonzero(scores >= self.score_threshold)
        labels = places(predictions[found, 5], classes)
        boxes = corners(predictions[found, :4], "xyxy")
        return Boxes(boxes, scores[found], labels, [one.name for one in classes])
