"""How duplicates are removed where a request does not say: by what the model finds."""

from __future__ import annotations

from typing import Any

from tasks.inference.description import Description
from tasks.request import Algorithm, AlgorithmType, Measure, Request

ORIENTED_IOU = 0.3
"""IoU of oriented boxes, as Ultralytics merges those of tiles: a thin box that is a pixel or a few
degrees off shares little."""


def resolve_algorithm(request: Request, description: Description | None) -> Request:
    """The request, with what suits its model, as far as it does not say how to merge.

    The parts of objects with masks are united, not the largest of them kept; oriented boxes are
    compared by a lower IoU than upright ones. What the request names counts.

    Args:
        request: The message.
        description: That of its model; None for one that has none.
    """
    detector = description.properties.detector if description else None
    given, chosen = request.algorithm, dict[str, Any]()
    if detector is not None and detector.segments and not _gives(given, "algorithm_type"):
        chosen = {"algorithmType": AlgorithmType.DISSOLVE}
    elif detector is not None and detector.oriented and _takes_oriented_iou(given):
        chosen = {"iouThreshold": ORIENTED_IOU}
    if not chosen:
        return request
    own = given.model_dump(mode="json", exclude_unset=True)
    whole = request.model_dump(mode="json", exclude_unset=True)
    return Request.model_validate(whole | {"postProcessing": [{"algorithm": own | chosen}]})


def _takes_oriented_iou(algorithm: Algorithm) -> bool:
    """Whether an algorithm compares polygons by IoU, with a threshold that is not given."""
    compares = algorithm.algorithm_type in {AlgorithmType.NMS, AlgorithmType.NMM}
    by_iou = algorithm.measure is Measure.IOU
    return compares and by_iou and not _gives(algorithm, "iou_threshold")


def _gives(algorithm: Algorithm, field: str) -> bool:
    return field in algorithm.model_fields_set
