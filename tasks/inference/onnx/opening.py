"""Opens the ONNX model of a request: it is loaded, checked and run before any tile is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tasks.errors import AnswerError, EndpointError, RequestError
from tasks.imagery import Image
from tasks.inference.description import load_description
from tasks.inference.description.classes import check_classes
from tasks.inference.description.fit import check_fit
from tasks.inference.description.load import DESCRIPTION_PARAMETER, find_file
from tasks.inference.onnx.endpoint import OnnxEndpoint
from tasks.inference.onnx.session import MAX_MODEL_BYTES, open_session

if TYPE_CHECKING:
    from tasks.request import Request


def open_onnx(
    request: Request, image: Image, roots: Sequence[Path], timeout: float
) -> OnnxEndpoint:
    """The endpoint that a request names, after the model has been run on a blank tile.

    Args:
        request: Its `imageProcessor.name` is the model, s3://bucket/key, read as `assumedRole`, or
            a path; its parameter `description` is the JSON that describes the model, by default the
            file of the same name with the ending `.json`.
        image: The image whose tiles the model will be given.
        roots: Folders that a path may lie in.
        timeout: Seconds that a call may take.

    Raises:
        RequestError: The model or the description does not exist or is not valid, they do not fit
            each other or the image, or onnxruntime is not installed.
    """
    processor, parameters = request.image_processor, request.image_processor_parameters
    unknown = [name for name in parameters if name != DESCRIPTION_PARAMETER]
    if unknown:
        raise RequestError(
            f"imageProcessorParameters.{unknown[0]}: unknown field; the only parameter of a model "
            f"of type ONNX is {DESCRIPTION_PARAMETER}; remove it."
        )
    name, role = processor.name, processor.assumed_role
    default = name.removesuffix(PurePosixPath(name).suffix) + ".json"
    uri = str(parameters.get(DESCRIPTION_PARAMETER, default))
    try:
        file = find_file(name, roots, role, max_bytes=MAX_MODEL_BYTES)
    except RequestError as error:
        raise RequestError(f"imageProcessor.name: {error}") from error
    description = load_description(uri, roots, role).for_image(image, request.tile_size)
    check_classes(request.algorithm, description)
    session = open_session(file, cpu_only=description.properties.cpu_only)
    endpoint = OnnxEndpoint(session, description, timeout)
    try:
        sample = description.prepare_blank(image, request.tile_size)
        check_fit(description, sample, name, session.inputs, session.outputs)
        endpoint.ask([sample])
    except (AnswerError, EndpointError) as error:
        endpoint.close()
        raise RequestError(
            f"{name}: the model does not fit its description {uri}, on a blank tile: {error}"
        ) from error
    except BaseException:
        endpoint.close()
        raise
    return endpoint
