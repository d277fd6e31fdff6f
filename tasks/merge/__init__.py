"""Duplicate removal: one detection for each object, though overlapping tiles saw it twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.detections import boxes
from tasks.errors import RequestError
from tasks.merge.nms import nms

if TYPE_CHECKING:
    from tasks.request import Algorithm

__all__ = ["check_algorithm", "merge", "nms"]

AVAILABLE = ("NMS", "NONE")


def check_algorithm(algorithm: Algorithm) -> None:
    """Refuse an algorithm that this version cannot apply, before any tile is paid for."""
    if algorithm.algorithm_type not in AVAILABLE:
        raise RequestError(
            f"postProcessing.algorithm.algorithmType: {algorithm.algorithm_type} is not available; "
            f"give one of {', '.join(AVAILABLE)}."
        )


def merge(detections: pa.Table, algorithm: Algorithm) -> pa.Table:
    """Detections without what was seen twice, still in the order of tile and ordinal.

    Args:
        detections: Table of `tasks.detections.SCHEMA`, sorted by tile and ordinal.
        algorithm: The request's feature distillation.
    """
    check_algorithm(algorithm)
    detections = detections.filter(
        pc.greater_equal(detections["score"], algorithm.skip_box_threshold)
    )
    if algorithm.algorithm_type == "NONE":
        return detections
    classes = detections["class_name"].combine_chunks().dictionary_encode().indices.to_numpy()
    scores = detections["score"].to_numpy()
    kept = nms(boxes(detections), scores, classes, algorithm.iou_threshold)
    return detections.take(np.sort(kept))


merge_task = task(name="merge", cache_policy=NO_CACHE)(merge)
