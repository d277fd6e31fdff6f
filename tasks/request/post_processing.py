"""Post-processing: how duplicate features are merged into one."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from tasks.request.field_types import ClassName, Number, ScoreByClass
from tasks.request.message_object import MessageObject


class AlgorithmType(StrEnum):
    """Algorithm by which duplicates are removed."""

    NMS = "NMS"
    SOFT_NMS = "SOFT_NMS"
    NMM = "NMM"
    WBF = "WBF"
    DISSOLVE = "DISSOLVE"
    NONE = "NONE"


_BY_IOU = (AlgorithmType.SOFT_NMS, AlgorithmType.WBF, AlgorithmType.NONE)


def _in_order(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names in one order, each once: requests for the same work have the same identity."""
    return tuple(sorted(set(names)))


def _default_score(fields: dict[str, Any]) -> float:
    """As in OSML: soft NMS needs a threshold to end its decay, the others drop nothing."""
    return 0.0001 if fields.get("algorithm_type") is AlgorithmType.SOFT_NMS else 0.0


def _default_iou(fields: dict[str, Any]) -> float:
    """As in OSML for boxes; lower for outlines, which differ more where tile edges cut them."""
    return 0.2 if fields.get("algorithm_type") is AlgorithmType.DISSOLVE else 0.75


class Measure(StrEnum):
    """Measure of the overlap of two detections."""

    IOU = "IOU"
    IOS = "IOS"


class Algorithm(MessageObject):
    """Algorithm by which duplicates are removed, and its parameters."""

    algorithm_type: AlgorithmType = Field(
        AlgorithmType.NMS,
        description="Non-maximum suppression (hard, or soft by decaying scores), non-maximum "
        "merging, weighted box fusion, DISSOLVE for polygons that tile edges cut, or NONE to keep "
        "every detection.",
        examples=["NMS"],
    )
    iou_threshold: Number = Field(
        default_factory=_default_iou,
        ge=0,
        le=1,
        description="Overlap, by measure, above which two detections are one object: unless given, "
        "0.2 for DISSOLVE, 0.3 for oriented boxes of ONNX and OIP models, 0.75 for the others.",
        examples=[0.5],
    )
    measure: Measure = Field(
        Measure.IOU,
        description="Measure of the overlap of two detections: their intersection over their union "
        "(IOU), or over the smaller of both (IOS), by which one inside another is the same object. "
        "IOS is for NMS, NMM and DISSOLVE.",
        examples=["IOS"],
    )
    skip_box_threshold: Number = Field(
        default_factory=_default_score,
        ge=0,
        le=1,
        description="Score below which a detection is dropped before the merge: 0.0001 for "
        "SOFT_NMS unless given, 0 for the others.",
        examples=[0.1],
    )
    classes: Annotated[tuple[ClassName, ...], AfterValidator(_in_order)] = Field(
        (),
        description="Classes to keep; detections of other classes are dropped before the merge. "
        "All classes unless given.",
        examples=[["ship", "barge"]],
    )
    class_thresholds: ScoreByClass = Field(
        {},
        description="Score below which a detection of a class is dropped before the merge, by "
        "class, in place of skipBoxThreshold.",
        examples=[{"ship": 0.4}],
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
        description="Whether detections that a tile's edge cuts are dropped for the detection of a "
        "tile that shows more of the object; not applied by DISSOLVE and NONE.",
        examples=[True],
    )
    sigma: Number = Field(
        0.1,
        gt=0,
        le=100,
        description="Width of the Gaussian by which SOFT_NMS decays scores.",
        examples=[0.1],
    )

    @field_validator("measure")
    @classmethod
    def _check_measure(cls, measure: Measure, info: ValidationInfo) -> Measure:
        kind = info.data.get("algorithm_type")
        if measure is Measure.IOS and kind in _BY_IOU:
            raise ValueError(
                f"is for NMS, NMM and DISSOLVE, and algorithm.algorithmType is {kind}; leave it "
                "out, or give another algorithm"
            )
        return measure

    @field_validator("class_thresholds")
    @classmethod
    def _check_kept(cls, thresholds: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        classes = info.data.get("classes")
        if classes and (dropped := sorted(thresholds.keys() - set(classes))):
            raise ValueError(
                f"names {dropped[0]!r}, which is not in algorithm.classes; add it there, or remove "
                "it here"
            )
        return thresholds

    @property
    def lowest_threshold(self) -> float:
        """The score below which a detection is dropped whatever its class."""
        return min([self.skip_box_threshold, *self.class_thresholds.values()])

    @property
    def applies_edge_rule(self) -> bool:
        """Whether detections that a tile's edge cuts are dropped for more complete ones."""
        without = (AlgorithmType.DISSOLVE, AlgorithmType.NONE)
        return self.edge_rule and self.algorithm_type not in without


class PostProcessing(MessageObject):
    """A step after inference."""

    step: Literal["FEATURE_DISTILLATION"] = Field(
        "FEATURE_DISTILLATION",
        description="Kind of step: FEATURE_DISTILLATION merges duplicates into one feature.",
        examples=["FEATURE_DISTILLATION"],
    )
    algorithm: Algorithm = Field(
        default_factory=Algorithm,
        description="Algorithm of the step; NMS at an IoU of 0.75 unless given.",
        examples=[{"algorithmType": "NMS", "iouThreshold": 0.75}],
    )
