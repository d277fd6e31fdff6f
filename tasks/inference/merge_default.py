"""How duplicates are removed where a request does not say: by what the model finds."""

from __future__ import annotations

from tasks.inference.description import Description
from tasks.request import AlgorithmType, Request


def resolve_algorithm(request: Request, description: Description | None) -> Request:
    """The request, with DISSOLVE as its algorithm if its model segments instances.

    The parts of an object that a tile edge cuts are then united, not the largest of them kept. An
    algorithm that the request names counts.

    Args:
        request: The message.
        description: That of its model; None for one that has none.
    """
    detector = description.properties.detector if description else None
    named = "algorithm_type" in request.algorithm.model_fields_set
    if detector is None or not detector.segments or named:
        return request
    own = request.algorithm.model_dump(mode="json", exclude_unset=True)
    step = {"algorithm": own | {"algorithmType": AlgorithmType.DISSOLVE}}
    whole = request.model_dump(mode="json", exclude_unset=True)
    return Request.model_validate(whole | {"postProcessing": [step]})
