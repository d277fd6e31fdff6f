"""The size of tiles that a model is made for, where a request gives none."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from tasks.errors import RequestError
from tasks.request import EndpointType, Request
from tasks.request.message import describe_errors
from tasks.settings import settings


def resolve_tile_size(request: Request) -> Request:
    """The request, with the size of its model's input as tile size if it gives none.

    Only models with a description, or that describe themselves, have such a size. For all others,
    and for inputs of any size, the request is returned unchanged: it then has the default.

    Raises:
        RequestError: The model or its description cannot be read, or its size does not go with the
            overlap.
    """
    if "tile_size" in request.model_fields_set:
        return request
    size = _own_size(request, settings().local_roots)
    if size is None:
        return request
    given = request.model_dump(mode="json", exclude_unset=True)
    try:
        return Request.model_validate(given | {"imageProcessorTileSize": size})
    except ValidationError as error:
        name = request.image_processor.name
        raise RequestError(
            f"{describe_errors(error)} ({name} takes tiles of {size} pixels, and no "
            "imageProcessorTileSize is given)"
        ) from None


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
