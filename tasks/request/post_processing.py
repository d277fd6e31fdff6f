"""The steps after inference: how features seen twice are distilled into one."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from tasks.request.field_types import Number
from tasks.request.message_object import MessageObject


class AlgorithmType(StrEnum):
    """How duplicates are removed."""

    NMS = "NMS"
    SOFT_NMS = "SOFT_NMS"
    NMM = "NMM"
    WBF = "WBF"
    DISSOLVE = "DISSOLVE"
    NONE = "NONE"


def _least_score(fields: dict[str, Any]) -> float:
    """OSML's thresholds: soft NMS needs one to end its decay, the others drop nothing unasked."""
    return 0.0001 if fields.get("algorithm_type") is AlgorithmType.SOFT_NMS else 0.0


def _least_overlap(fields: dict[str, Any]) -> float:
    """OSML's for boxes; outlines of one object differ more where a tile's edge cuts them."""
    return 0.2 if fields.get("algorithm_type") is AlgorithmType.DISSOLVE else 0.75


class Algorithm(MessageObject):
    """How duplicates are removed."""

    algorithm_type: AlgorithmType = Field(
        AlgorithmType.NMS,
        description="Non-maximum suppression (hard, or soft by decaying scores), non-maximum "
        "merging, weighted box fusion, DISSOLVE for polygons that tile edges cut, or NONE to keep "
        "every detection.",
        examples=["NMS"],
    )
    iou_threshold: Number = Field(
        default_factory=_least_overlap,
        ge=0,
        le=1,
        description="Intersection over union above which two detections are one object: 0.2 for "
        "DISSOLVE unless given, 0.75 for the others.",
        examples=[0.5],
    )
    skip_box_threshold: Number = Field(
        default_factory=_least_score,
        ge=0,
        le=1,
        description="Score below which a detection is dropped: 0.0001 for SOFT_NMS unless given, "
        "0 for the others.",
        examples=[0.1],
    )
    method: Literal["GAUSSIAN", "LINEAR"] = Field(
        "GAUSSIAN",
        description="How SOFT_NMS lowers scores: GAUSSIAN, by exp(−IoU² / sigma), or LINEAR, by "
        "1 − IoU where that is above iouThreshold.",
        examples=["GAUSSIAN"],
    )
    class_agnostic: bool = Field(
        default=False,
        description="Whether detections of different classes may be one object.",
        examples=[False],
    )
    edge_rule: bool = Field(
        default=True,
        description="Whether views of objects that a tile's edge cuts give way to the view of a "
        "tile that shows more of them; never for DISSOLVE and NONE.",
        examples=[True],
    )
    sigma: Number = Field(
        0.1,
        gt=0,
        le=100,
        description="Width of the Gaussian by which SOFT_NMS decays scores.",
        examples=[0.1],
    )

    @property
    def cuts_edges(self) -> bool:
        """Whether views that a tile's edge cuts give way."""
        kinds = (AlgorithmType.DISSOLVE, AlgorithmType.NONE)
        return self.edge_rule and self.algorithm_type not in kinds


class PostProcessing(MessageObject):
    """A step after inference."""

    step: Literal["FEATURE_DISTILLATION"] = Field(
        "FEATURE_DISTILLATION",
        description="Kind of step: FEATURE_DISTILLATION makes one feature of duplicates.",
        examples=["FEATURE_DISTILLATION"],
    )
    algorithm: Algorithm = Field(
        default_factory=Algorithm,
        description="Algorithm of the step; NMS at an IoU of 0.75 unless given.",
        examples=[{"algorithmType": "NMS", "iouThreshold": 0.75}],
    )
