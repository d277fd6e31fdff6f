"""The metres a pixel that a model was trained at, as its description says."""

from __future__ import annotations

from tasks.errors import SwathError
from tasks.request import EndpointType, Request
from tasks.settings import settings


def trained_resolution(request: Request) -> float | None:
    """Metres a pixel that the description of a request's model names; None if it names none.

    None, too, if the description is gone: answers that are kept outlive it.
    """
    # imported late: these modules load slowly, and most models need none of them
    roots = settings().local_roots
    try:
        match request.image_processor.type:
            case EndpointType.ONNX:
                from tasks.inference.onnx.opening import described_resolution  # noqa: PLC0415

                return described_resolution(request, roots)
            case EndpointType.OIP_ENDPOINT:
                from tasks.inference.oip.opening import load  # noqa: PLC0415

                return load(request, roots).properties.resolution
    except SwathError:
        return None
    return None
