"""The score below which a detector drops boxes, where a request asks for lower ones."""

from __future__ import annotations

from dataclasses import replace

from tasks.inference.description.description import Description
from tasks.inference.description.detectors.detector import Detector
from tasks.request import Algorithm


def lower_threshold(description: Description, algorithm: Algorithm) -> Description:
    """The description, with a default score threshold lowered to the lowest that a request gives.

    A threshold that the description itself gives is kept. Higher ones of the request are applied
    before the merge, so that the model's answers do not depend on them.
    """
    detector = description.properties.detector
    if detector is None:
        return description
    lowest = score_threshold(detector, algorithm)
    if lowest == detector.score_threshold:
        return description
    lowered = detector.model_copy(update={"score_threshold": lowest})
    properties = description.properties.model_copy(update={"detector": lowered})
    return replace(description, properties=properties)


def score_threshold(detector: Detector | None, algorithm: Algorithm) -> float:
    """The score below which a detector drops boxes for a request.

    Args:
        detector: As its description has it; None for a model that describes itself, whose metadata
            give no threshold.
        algorithm: The request's.
    """
    if detector is not None and "score_threshold" in detector.model_fields_set:
        return detector.score_threshold
    default: float = Detector.model_fields["score_threshold"].default
    wanted = list(algorithm.class_thresholds.values())
    if "skip_box_threshold" in algorithm.model_fields_set:
        wanted.append(algorithm.skip_box_threshold)
    return min([default, *wanted])
