"""What a request leaves to its model: the size of tiles, what it answers, how that is merged."""

from __future__ import annotations

from pathlib import Path

from tasks.inference.description import Description
from tasks.inference.merge_default import resolve_algorithm
from tasks.inference.raster_output import resolve_raster_output
from tasks.inference.tile_output import resolve_tile_output
from tasks.inference.tile_size import resolve_tile_size
from tasks.request import EndpointType, Request
from tasks.settings import settings


def resolve(request: Request) -> Request:
    """The request, with all that its model says of itself and the request does not give.

    Raises:
        RequestError: The model or its description cannot be read, or does not go with the request.
    """
    request = resolve_tile_size(request)
    description = _description(request, settings().local_roots)
    request = resolve_tile_output(resolve_raster_output(request, description), description)
    return resolve_algorithm(request, description)


def _description(request: Request, roots: list[Path]) -> Description | None:
    # imported late: these modules load slowly, and most models need none of them
    match request.image_processor.type:
        case EndpointType.ONNX:
            from tasks.inference.onnx.opening import description_of_model  # noqa: PLC0415

            return description_of_model(request, roots)
        case EndpointType.OIP_ENDPOINT:
            from tasks.inference.oip.opening import load  # noqa: PLC0415

            return load(request, roots)
    return None
