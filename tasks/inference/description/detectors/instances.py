"""Detectors that segment instances: each object has a mask, which becomes its outline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import shapely
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
from tasks.inference.description.detectors.masks import (
    Geometries,
    from_boxes,
    from_input,
    from_prototypes,
)
from tasks.inference.description.detectors.postprocessed import Postprocessed
from tasks.inference.description.head import Fraction, Size, Strides, Tensors
from tasks.inference.description.mlm import Class
from tasks.inference.endpoint import Boxes


class YoloV8Masks(Detector):
    """A YOLOv8 head for instance segmentation, as of YOLO11 and later too.

    Its outputs are predictions (batch, 4 + classes + k, cells), or transposed, with k coefficients
    for each cell, and prototypes (batch, k, height / 4, width / 4). With `end2end`, predictions are
    (batch, boxes, 6 + k).

    Attributes:
        end2end: Whether the export includes NMS.
        nms_iou_threshold: A box whose IoU with a better box of its class is higher is dropped.
        prototypes: Name of the output with the prototypes; None for the second of `mlm:output`.
    """

    segments: ClassVar[bool] = True

    type: Literal["yolov8-seg"]
    end2end: bool = False
    nms_iou_threshold: Fraction = 0.45
    pad_value: FiniteFloat = 114.0
    strides: Strides = (8, 16, 32)
    prototypes: str | None = None

    @property
    def roles(self) -> Mapping[str, int]:
        """The predictions and the prototypes."""
        return {"predictions": 3, "prototypes": 4}

    def output_names(self, declared: Sequence[str | None]) -> dict[str, str | None]:
        """The names of both outputs: those of `mlm:output` in their order."""
        second = next(iter(declared[1:]), None)
        return {"predictions": declared[0], "prototypes": self.prototypes or second}

    def decode(self, tensors: Tensors, classes: Sequence[Class], size: Size) -> list[Boxes]:
        """Decode as Ultralytics' `non_max_suppression` and `process_mask` do."""
        predictions, prototypes = tensors["predictions"], tensors["prototypes"]
        known = 6 if self.end2end else 4 + len(classes)
        columns = known + prototypes.shape[1]
        if not self.end2end and predictions.shape[1] == columns:
            predictions = predictions.transpose(0, 2, 1)
        if predictions.shape[2] != columns:
            raise AnswerError(
                f"The model's outputs have the shapes {predictions.shape[1:]} and "
                f"{prototypes.shape[1:]}, and for {len(classes)} classes and "
                f"{prototypes.shape[1]} prototypes there must be {columns} numbers per box; check "
                "classification:classes, swath:detector.end2end and swath:detector.prototypes."
            )
        names = [one.name for one in classes]
        found = []
        for rows, own in zip(predictions, prototypes, strict=True):
            boxes, scores, labels, kept = self._objects(rows[:, :known], classes)
            outlines = from_prototypes(rows[kept, known:], own, boxes, size)
            found.append(_with_outlines(Boxes(boxes, scores, labels, names, outlines)))
        return found

    def _objects(
        self, rows: NDArray[Any], classes: Sequence[Class]
    ) -> tuple[NDArray[np.float64], NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
        """Boxes in pixels of the input, scores and labels of the objects, and their rows."""
        scores = check_scores(rows[:, 4] if self.end2end else rows[:, 4:].max(axis=1))
        kept = np.flatnonzero(scores >= self.score_threshold)
        if self.end2end:
            kept = kept[scores[kept] > 0]  # rows of 0 fill the output up
            boxes = to_corners(rows[kept, :4], "xyxy")
            return boxes, scores[kept], class_indices(rows[kept, 5], classes), kept
        boxes = to_corners(rows[kept, :4], "cxcywh")
        labels = rows[kept, 4:].argmax(axis=1)
        best = suppress(boxes, scores[kept], labels, self.nms_iou_threshold)
        return boxes[best], scores[kept][best], labels[best], kept[best]


class MaskRcnn(Postprocessed):
    """Mask R-CNN of torchvision: `masks` beside boxes, labels and scores.

    Masks are probabilities (boxes, 1, m, m) within the boxes, or (boxes, 1, height, width) of the
    whole input, as the exporter pastes them.
    """

    segments: ClassVar[bool] = True

    type: Literal["mask-rcnn"]

    @property
    def roles(self) -> Mapping[str, int]:
        """Roles of the decoded outputs, and the number of dimensions of each."""
        return {**super().roles, "masks": 5}

    def decode(self, tensors: Tensors, classes: Sequence[Class], size: Size) -> list[Boxes]:
        """The boxes with a score of at least the threshold, with the outlines of their masks."""
        self.check_lengths(tensors)
        masks = tensors["masks"]
        if masks.shape[2] != 1:
            raise AnswerError(
                f"The model's masks have the shape {masks.shape[1:]}, and they must have one "
                "channel: (boxes, 1, height, width)."
            )
        names = [one.name for one in classes]
        found = []
        roles = ("boxes", "labels", "scores", "masks")
        for boxes, labels, scores, own in zip(*(tensors[role] for role in roles), strict=True):
            kept = np.flatnonzero(check_scores(scores) >= self.score_threshold)
            corners = self.in_pixels(boxes[kept], size)
            of_input = own.shape[2:] == size[::-1]
            drawn = own[kept, 0]
            outlines = from_input(drawn) if of_input else from_boxes(drawn, corners, size)
            numbers = class_indices(labels[kept], classes)
            found.append(_with_outlines(Boxes(corners, scores[kept], numbers, names, outlines)))
        return found


def _with_outlines(found: Boxes) -> Boxes:
    """The objects without those whose mask is empty; a box that is not finite stays, and counts."""
    assert found.outlines is not None
    outlines: Geometries = found.outlines
    empty = np.array([one is None for one in outlines], bool)
    outlines[empty] = shapely.Polygon()
    kept = ~empty | ~np.isfinite(found.boxes).all(axis=1)
    return Boxes(
        found.boxes[kept], found.scores[kept], found.classes[kept], found.names, outlines[kept]
    )
