"""YOLOv8 and later, and RT-DETR, of Ultralytics: a box and class scores, without objectness."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, model_validator

from tasks.errors import AnswerError
from tasks.inference.description.detectors.boxes import (
    BoxFormat,
    check_scores,
    class_indices,
    suppress,
    to_corners,
)
from tasks.inference.description.detectors.detector import Detector
from tasks.inference.description.detectors.oriented import (
    corners_of,
    outlines_of,
    suppress_oriented,
)
from tasks.inference.description.head import Fraction, Size, Strides, Tensors
from tasks.inference.description.mlm import Class
from tasks.inference.endpoint import Boxes


class UltralyticsHead(Detector):
    """A head of Ultralytics: (batch, 4 + classes + further numbers, cells), or transposed.

    Each cell has a box (centre and size in pixels) and a score per class.

    Attributes:
        further: Numbers of a box after its class scores, or after its class.
        end2end: Whether the export includes NMS. The output is then (batch, boxes, 6 + further):
            the box, score, class.
        normalized: Whether boxes are in fractions of the input's size, not in pixels.
        nms_iou_threshold: A box whose IoU with a better box of its class is higher is dropped.
    """

    further: ClassVar[int] = 0

    type: str  # before the others: the digest of a description has the fields in this order
    end2end: bool = False
    normalized: bool = False
    nms_iou_threshold: Fraction = 0.45
    pad_value: FiniteFloat = 114.0
    strides: Strides = (8, 16, 32)

    def decode(self, tensors: Tensors, classes: Sequence[Class], size: Size) -> list[Boxes]:
        """Decode as Ultralytics' `non_max_suppression` does with one class per box."""
        predictions = tensors["predictions"]
        columns = (6 if self.end2end else 4 + len(classes)) + self.further
        if not self.end2end and predictions.shape[1] == columns:
            predictions = predictions.transpose(0, 2, 1)
        if predictions.shape[2] != columns:
            raise AnswerError(
                f"The model's output has the shape {predictions.shape[1:]}, and for "
                f"{len(classes)} classes it must have {columns} numbers per box; check "
                "classification:classes and swath:detector.end2end."
            )
        unit = np.array(size * 2, np.float64) if self.normalized else 1.0
        decode_tile = self._decode_end2end if self.end2end else self._decode_raw
        return [decode_tile(tile, classes, unit) for tile in predictions]

    def _decode_raw(
        self, predictions: NDArray[Any], classes: Sequence[Class], unit: NDArray[Any] | float
    ) -> Boxes:
        every = predictions[:, 4 : 4 + len(classes)]
        best = check_scores(every.max(axis=1))
        found = np.flatnonzero(best >= self.score_threshold)
        labels = every[found].argmax(axis=1)
        further = predictions[found, 4 + len(classes) :]
        return self._boxes(predictions[found, :4] * unit, further, best[found], labels, classes)

    def _decode_end2end(
        self, predictions: NDArray[Any], classes: Sequence[Class], unit: NDArray[Any] | float
    ) -> Boxes:
        scores = check_scores(predictions[:, 4])
        # rows of 0 fill the output up
        found = np.flatnonzero((scores >= self.score_threshold) & (scores > 0))
        labels = class_indices(predictions[found, 5], classes)
        boxes, further = predictions[found, :4] * unit, predictions[found, 6:]
        return self._boxes(boxes, further, scores[found], labels, classes)

    @abstractmethod
    def _boxes(
        self,
        boxes: NDArray[Any],
        further: NDArray[Any],
        scores: NDArray[Any],
        labels: NDArray[np.int64],
        classes: Sequence[Class],
    ) -> Boxes:
        """The answer for a tile, from boxes (n, 4) of the export, which NMS may have left."""


class YoloV8(UltralyticsHead):
    """A YOLOv8 head: (batch, 4 + classes, cells), or transposed.

    Attributes:
        box_format: Format of the boxes after NMS.
    """

    type: Literal["yolov8"]
    box_format: BoxFormat = Field("xyxy", exclude_if=lambda value: value == "xyxy")

    @model_validator(mode="after")
    def _check_box_format(self) -> Self:
        if "box_format" in self.model_fields_set and not self.end2end:
            raise ValueError(
                "box_format: is for boxes after NMS; give end2end true, or leave it out"
            )
        return self

    def _boxes(
        self,
        boxes: NDArray[Any],
        further: NDArray[Any],  # noqa: ARG002 - of other heads
        scores: NDArray[Any],
        labels: NDArray[np.int64],
        classes: Sequence[Class],
    ) -> Boxes:
        names = [one.name for one in classes]
        if self.end2end:
            corners = to_corners(boxes, self.box_format)
            return Boxes(corners, scores, labels, names)
        corners = to_corners(boxes, "cxcywh")
        kept = suppress(corners, scores, labels, self.nms_iou_threshold)
        return Boxes(corners[kept], scores[kept], labels[kept], names)


class YoloV8Obb(UltralyticsHead):
    """An oriented head of Ultralytics: (batch, 4 + classes + 1, cells), or transposed.

    The last number is the angle in radians. After NMS, boxes are still centre and size.
    """

    further: ClassVar[int] = 1
    oriented: ClassVar[bool] = True

    type: Literal["yolov8-obb"]

    def _boxes(
        self,
        boxes: NDArray[Any],
        further: NDArray[Any],
        scores: NDArray[Any],
        labels: NDArray[np.int64],
        classes: Sequence[Class],
    ) -> Boxes:
        oriented = np.concatenate([boxes, further], axis=1, dtype=np.float64)
        kept = np.arange(len(oriented))
        if not self.end2end:
            kept = suppress_oriented(oriented, scores, labels, self.nms_iou_threshold)
        bounds, outlines = outlines_of(corners_of(oriented[kept]))
        return Boxes(bounds, scores[kept], labels[kept], [one.name for one in classes], outlines)
