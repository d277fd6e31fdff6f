"""The model that a request names: found, checked and tried before any tile is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tasks.errors import AnswerError, EndpointError, RequestError
from tasks.imagery import Image
from tasks.inference.description import load_description
from tasks.inference.description.sample import blank_tile
from tasks.inference.description.source import find
from tasks.inference.onnx.endpoint import OnnxEndpoint
from tasks.inference.onnx.fit import check_fit
from tasks.inference.onnx.session import LARGEST, open_session

if TYPE_CHECKING:
    from tasks.request import Request

_DESCRIPTION = "description"  # the parameter that names it


def open_onnx(
    request: Request, image: Image, roots: Sequence[Path], timeout: float
) -> OnnxEndpoint:
    """The endpoint that a request names, which has answered to a blank tile.

    Args:
        request: Names the model, s3://bucket/key, read as `assumedRole`, or a path; and by the
            parameter `description` the JSON that describes it, where it is not beside the model.
        image: Whose tiles it will see.
        roots: Folders that a path may lie in.
        timeout: Seconds that a call may take.

    Raises:
        RequestError: There is no model or description, or they do not fit each other or the image;
            or onnxruntime is not installed.
    """
    processor, parameters = request.image_processor, request.image_processor_parameters
    unknown = [name for name in parameters if name != _DESCRIPTION]
    if unknown:
        raise RequestError(
            f"imageProcessorParameters.{unknown[0]}: unknown field; a model of type ONNX takes "
            f"{_DESCRIPTION} alone, remove it."
        )
    name, role = processor.name, processor.assumed_role
    beside = name.removesuffix(PurePosixPath(name).suffix) + ".json"
    uri = str(parameters.get(_DESCRIPTION, beside))
    try:
        source = find(name, roots, role, largest=LARGEST)
    except RequestError as error:
        raise RequestError(f"imageProcessor.name: {error}") from error
    description = load_description(uri, roots, role).for_image(image, request.tile_size)
    session = open_session(source, cpu_only=description.properties.cpu_only)
    endpoint = OnnxEndpoint(session, description, timeout)
    try:
        sample = endpoint.prepare(blank_tile(image, request.tile_size))
        check_fit(session, description, sample)
        endpoint.ask([sample])
    except (AnswerError, EndpointError) as error:
        endpoint.close()
        raise RequestError(
            f"{name}: does not do what {uri} says, on a blank tile: {error}"
        ) from error
    except BaseException:
        endpoint.close()
        raise
    return endpoint
