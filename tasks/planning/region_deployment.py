"""Which deployment runs the regions of a request."""

from __future__ import annotations

from tasks.request import EndpointType, Request
from tasks.settings import settings


def region_deployment(request: Request) -> str | None:
    """The deployment that runs the regions of a request; None if they run in the image's process.

    Models of type ONNX run in the process of a region, so they may have machines of their own.
    """
    return onnx_deployment(request) or settings().region_deployment


def onnx_deployment(request: Request) -> str | None:
    """The deployment of ONNX models; None if there is none, or for a model of another type."""
    if request.image_processor.type is not EndpointType.ONNX:
        return None
    return settings().onnx_region_deployment
