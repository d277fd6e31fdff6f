"""The options for filtering and merging detections, as fields of a request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite, nan
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from deployments.run.option_help import MERGING, message_default
from deployments.run.words import words
from tasks.errors import RequestError


@Parameter(name="*", group=MERGING)
@dataclass(frozen=True, kw_only=True)
class MergingOptions:
    """The options for filtering and merging detections; None or empty if not given."""

    conf: Annotated[
        tuple[str, ...],
        Parameter(
            help="Score below which detections are dropped, 0 to 1; CLASS=SCORE for one class. May "
            "be repeated.",
            allow_leading_hyphen=True,
            show_default=message_default("skip_box_threshold", of_algorithm=True),
        ),
    ] = ()
    classes: Annotated[
        tuple[str, ...],
        Parameter(
            help="Classes to keep, separated by commas; the others are dropped before the merge. "
            "Of a raster, with --polygons, the classes to outline.",
            show_default=lambda _: "all",
        ),
    ] = ()
    merge: Annotated[
        Literal["NMS", "SOFT_NMS", "NMM", "WBF", "DISSOLVE", "NONE"] | None,
        Parameter(
            help="How duplicates of overlapping tiles are removed.",
            show_default=message_default("algorithm_type", of_algorithm=True),
        ),
    ] = None
    iou: Annotated[
        float | None,
        Parameter(
            help="Overlap above which two detections are one object; 0.2 for DISSOLVE, 0.3 for "
            "oriented boxes of a model in this process or over OIP, unless given.",
            allow_leading_hyphen=True,
            show_default=message_default("iou_threshold", of_algorithm=True),
        ),
    ] = None
    measure: Annotated[
        Literal["IOU", "IOS"] | None,
        Parameter(
            help="Measure of the overlap: intersection over union, or over the smaller of both.",
            show_default=message_default("measure", of_algorithm=True),
        ),
    ] = None
    class_agnostic: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Let detections of different classes be one object.",
            show_default=False,
        ),
    ] = False

    def message(self) -> dict[str, Any]:
        """The fields of the request message for the options that are given.

        Raises:
            RequestError: --conf, --classes or --iou has an invalid value.
        """
        if self.iou is not None and not isfinite(self.iou):
            raise RequestError(f"--iou: {self.iou} is not a finite number; give 0 to 1.")
        classes = list(words("--classes", self.classes))
        if self.classes and not classes:
            raise RequestError("--classes: names no class; give ship,barge, or leave it out.")
        threshold, by_class = _thresholds(words("--conf", self.conf))
        if self.conf and threshold is None and not by_class:
            raise RequestError("--conf: has no score; give 0.25 or ship=0.4, or leave it out.")
        algorithm = {
            "algorithmType": self.merge,
            "iouThreshold": self.iou,
            "measure": self.measure,
            "skipBoxThreshold": threshold,
            "classes": classes,
            "classThresholds": by_class,
            "classAgnostic": self.class_agnostic or None,
        }
        given = {name: value for name, value in algorithm.items() if value not in (None, [], {})}
        return {"postProcessing": [{"algorithm": given}]} if given else {}


def _thresholds(given: Iterable[str]) -> tuple[float | None, dict[str, float]]:
    """The score for all classes, if there is one, and those for single classes."""
    for_all: float | None = None
    by_class: dict[str, float] = {}
    for word in given:
        name, equals, text = word.rpartition("=")
        try:
            score = float(text)
        except ValueError:
            score = nan
        if not isfinite(score):
            raise RequestError(
                f"--conf: {word!r} is neither a score nor CLASS=SCORE; give 0.25 or ship=0.4."
            )
        if equals and (not name or name in by_class):
            raise RequestError(f"--conf: {word!r} names no class, or one that has a score already.")
        if not equals and for_all is not None:
            raise RequestError(
                f"--conf: {for_all:g} and {score:g} are both for all classes; give one of them."
            )
        if equals:
            by_class[name.strip()] = score
        else:
            for_all = score
    return for_all, by_class
