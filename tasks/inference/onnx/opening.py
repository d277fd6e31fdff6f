"""Opens the ONNX model of a request: it is loaded, checked and run before any tile is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from tasks.errors import AnswerError, EndpointError, NoSuchFileError, RequestError
from tasks.imagery import Image
from tasks.inference.description import Description, load_description
from tasks.inference.description.classes import check_classes
from tasks.inference.description.fit import check_fit
from tasks.inference.description.inspection import describe_export, is_export, tile_size_of_export
from tasks.inference.description.load import (
    DESCRIPTION_PARAMETER,
    ModelFile,
    description_of,
    find_file,
)
from tasks.inference.description.signature import ModelSignature
from tasks.inference.description.threshold import lower_threshold, score_threshold
from tasks.inference.endpoint import Pixels, Vector
from tasks.inference.onnx.endpoint import OnnxEndpoint
from tasks.inference.onnx.session import MAX_MODEL_BYTES, Session, open_session

if TYPE_CHECKING:
    from tasks.request import Request

_RGB = {"red", "green", "blue"}


def open_onnx(
    request: Request, image: Image, roots: Sequence[Path], timeout: float
) -> OnnxEndpoint:
    """The endpoint that a request names, after the model has been run on a blank tile.

    Args:
        request: Its `imageProcessor.name` is the model, s3://bucket/key, read as `assumedRole`, or
            a path; its parameter `description` is the JSON that describes the model, by default the
            file of the same name with the ending `.json`. A model that Ultralytics exported needs
            none: it describes itself.
        image: The image whose tiles the model will be given.
        roots: Folders that a path may lie in.
        timeout: Seconds that a call may take.

    Raises:
        RequestError: The model or the description does not exist or is not valid, they do not fit
            each other or the image, or onnxruntime is not installed.
    """
    name, file = request.image_processor.name, _find_model(request, roots)
    described = _load_description(request, roots)
    chosen = bool(request.image_bands)
    if isinstance(described, Description):
        description = described.for_image(image, request.tile_size, chosen=chosen)
        session = open_session(file, cpu_only=description.properties.cpu_only)
    else:
        session = open_session(file, cpu_only=False)
        description = _self_described(
            name, session, described, image, request.tile_size, chosen=chosen
        )
    check_classes(request.algorithm, description)
    description = lower_threshold(description, request.algorithm)
    endpoint = OnnxEndpoint(session, description, timeout)
    try:
        sample = description.prepare_blank(image, request.tile_size)
        check_fit(description, sample, name, session.inputs, session.outputs)
        (answer,) = endpoint.ask([sample])
        if isinstance(answer, Pixels) and (head := description.properties.raster) is not None:
            head.check_values(answer.bands)
        if isinstance(answer, Vector) and (whole := description.properties.tile) is not None:
            whole.check_values(answer.values)
    except (AnswerError, EndpointError) as error:
        endpoint.close()
        raise RequestError(
            f"{name}: the model does not fit its description {description.uri}, on a blank tile: "
            f"{error}"
        ) from error
    except BaseException:
        endpoint.close()
        raise
    return endpoint


def model_tile_size(request: Request, roots: Sequence[Path]) -> int | None:
    """Side in pixels of the tiles that a model is made for; None if it takes any size.

    Raises:
        RequestError: See `open_onnx`.
    """
    file, described = _find_model(request, roots), _load_description(request, roots)
    if isinstance(described, Description):
        return described.tile_size
    session = open_session(file, cpu_only=False)
    model = signature(request.image_processor.name, session)
    if not is_export(model):
        raise described
    return tile_size_of_export(model) or _describe(model, by_name=True).tile_size


def file_versions(request: Request, roots: Sequence[Path]) -> list[str]:
    """The versions of a model's file and of its description, if it has one.

    Raises:
        RequestError: See `open_onnx`.
    """
    described = _load_description(request, roots)
    versions = [_find_model(request, roots).version]
    return versions + ([described.version] if isinstance(described, Description) else [])


def description_of_model(request: Request, roots: Sequence[Path]) -> Description | None:
    """The description of a model, in a file or its own metadata.

    Returns:
        The description; None for a model that has none, or that exists no more.

    Raises:
        RequestError: See `open_onnx`.
    """
    described = _load_description(request, roots)
    if isinstance(described, Description):
        return described
    try:
        file = _find_model(request, roots)
    except NoSuchFileError:
        return None
    model = signature(request.image_processor.name, open_session(file, cpu_only=False))
    return _describe(model, by_name=True) if is_export(model) else None


def described_resolution(request: Request, roots: Sequence[Path]) -> float | None:
    """Metres a pixel that the file with a model's description names, if there is one.

    Raises:
        RequestError: See `open_onnx`.
    """
    described = _load_description(request, roots)
    return described.properties.resolution if isinstance(described, Description) else None


def least_score(request: Request, roots: Sequence[Path]) -> float:
    """The score below which the model's boxes are left out of its answers.

    Raises:
        RequestError: See `open_onnx`.
    """
    described = _load_description(request, roots)
    detector = described.properties.detector if isinstance(described, Description) else None
    return score_threshold(detector, request.algorithm)


def signature(name: str, session: Session) -> ModelSignature:
    """What a model declares about itself."""
    return ModelSignature(name, session.inputs, session.outputs, session.metadata)


def _find_model(request: Request, roots: Sequence[Path]) -> ModelFile:
    """The file of the model, after a check of the request's parameters."""
    processor = request.image_processor
    unknown = [name for name in request.image_processor_parameters if name != DESCRIPTION_PARAMETER]
    if unknown:
        raise RequestError(
            f"imageProcessorParameters.{unknown[0]}: unknown field; the only parameter of a model "
            f"of type ONNX is {DESCRIPTION_PARAMETER}; remove it."
        )
    try:
        return find_file(processor.name, roots, processor.assumed_role, max_bytes=MAX_MODEL_BYTES)
    except RequestError as error:
        raise type(error)(f"imageProcessor.name: {error}") from error


def _load_description(request: Request, roots: Sequence[Path]) -> Description | RequestError:
    """The description in a file, or the error that there is none; a named one must exist."""
    processor = request.image_processor
    named = request.image_processor_parameters.get(DESCRIPTION_PARAMETER)
    uri = str(named) if named is not None else default_description(processor.name)
    try:
        return load_description(uri, roots, processor.assumed_role)
    except NoSuchFileError as error:
        if named is not None:
            raise
        return error


def default_description(name: str) -> str:
    """Where the description of a model is looked for: beside it, with the ending `.json`."""
    return name.removesuffix(PurePosixPath(name).suffix) + ".json"


def _self_described(
    name: str,
    session: Session,
    missing: RequestError,
    image: Image,
    tile_size: int,
    *,
    chosen: bool,
) -> Description:
    """The description of a model by its own metadata, for an image.

    Args:
        name: The model.
        session: The same.
        missing: The error to raise for a model without such metadata.
        image: The image whose tiles the model will be given.
        tile_size: Side of a tile in pixels.
        chosen: Whether the image has just the bands of the model, as the request names them.
    """
    model = signature(name, session)
    if not is_export(model):
        raise missing
    by_name = {colour.lower() for colour in image.colours} >= _RGB
    description = _describe(model, by_name=by_name)
    try:
        return description.for_image(image, tile_size, chosen=chosen)
    except RequestError as error:
        raise RequestError(
            f"{description.uri}: {error} To change what the model's metadata say, write them to a "
            f"file and edit it: swath models describe {name} --out {default_description(name)}"
        ) from error


def _describe(model: ModelSignature, *, by_name: bool) -> Description:
    document = describe_export(model, by_name=by_name)
    return description_of(f"{model.name} (its metadata)", document)
