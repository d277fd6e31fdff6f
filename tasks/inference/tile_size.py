"""The size of tiles that a model is made for, where a request gives none."""

from __future__ import annotations

from pathlib import Path

from tasks.errors import RequestError
from tasks.request import EndpointType, Request
from tasks.settings import settings


def resolve_tile_size(request: Request) -> Request:
    """The request, with the size of its model's input as tile size if it gives none.

    Only models with a description, or that describe themselves, have such a size. For all others,
    and for inputs of any size, the request is returned unchanged: it then has the default.

    Raises:
        RequestError: The model or its description cannot be read, or the overlap is not below the
            size.
    """
    if "tile_size" in request.model_fields_set:
        return request
    size = _own_size(request, settings().local_roots)
    if size is None:
        return request
    if request.tile_overlap >= size:
        raise RequestError(
            f"imageProcessorTileOverlap: {request.tile_overlap} is not below {size}, the size of "
            f"the input of {request.image_processor.name}; give 0 to {size - 1} pixels, or "
            "imageProcessorTileSize."
        )
    return request.model_copy(update={"tile_size": size})


def _own_size(request: Request, roots: list[Path]) -> int | None:
    # imported late: these modules load slowly, and most models need none of them
    match request.image_processor.type:
        case EndpointType.ONNX:
            from tasks.inference.onnx.opening import model_tile_size  # noqa: PLC0415

            return model_tile_size(request, roots)
        case EndpointType.OIP_ENDPOINT:
            from tasks.inference.oip.opening import described_tile_size  # noqa: PLC0415

            return described_tile_size(request, roots)
    return None
