"""Opens the model of a request that is served over the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import RequestError
from tasks.imagery import Image
from tasks.inference.description import Description, load_description
from tasks.inference.description.classes import check_classes
from tasks.inference.description.load import DESCRIPTION_PARAMETER
from tasks.inference.description.threshold import lower_threshold, score_threshold
from tasks.inference.oip.endpoint import OipEndpoint

if TYPE_CHECKING:
    from tasks.request import Request


def open_oip(request: Request, image: Image, roots: Sequence[Path], timeout: float) -> OipEndpoint:
    """The endpoint that a request names, after its model's metadata were checked.

    Args:
        request: Its `imageProcessor.name` is the model's URL; its parameter `description` is the
            JSON that describes the model: s3://bucket/key, read as `assumedRole`, or a path.
        image: The image whose tiles will be sent.
        roots: Folders that a path may lie in.
        timeout: Seconds that a call may take in total.

    Raises:
        RequestError: There is no description or no such model, or it does not take such tiles.
        EndpointError: The server does not answer, or the model is not ready yet.
        AnswerError: The server's answer cannot be read.
    """
    processor, parameters = request.image_processor, dict(request.image_processor_parameters)
    description = load(request, roots)
    parameters.pop(DESCRIPTION_PARAMETER)
    description = description.for_image(image, request.tile_size, chosen=bool(request.image_bands))
    check_classes(request.algorithm, description)
    description = lower_threshold(description, request.algorithm)
    sample = description.prepare_blank(image, request.tile_size)
    return OipEndpoint(processor.name, description, parameters, sample, timeout)


def described_tile_size(request: Request, roots: Sequence[Path]) -> int | None:
    """Side in pixels of the tiles that a model's description is for; None if it takes any size.

    Raises:
        RequestError: See `open_oip`.
    """
    return load(request, roots).tile_size


def description_version(request: Request, roots: Sequence[Path]) -> str:
    """The version of a model's description.

    Raises:
        RequestError: See `open_oip`.
    """
    return load(request, roots).version


def least_score(request: Request, roots: Sequence[Path]) -> float:
    """The score below which the model's boxes are left out of its answers.

    Raises:
        RequestError: See `open_oip`.
    """
    return score_threshold(load(request, roots).properties.detector, request.algorithm)


def load(request: Request, roots: Sequence[Path]) -> Description:
    """The description of a request's model.

    Raises:
        RequestError: It is not named, or cannot be read.
    """
    uri = request.image_processor_parameters.get(DESCRIPTION_PARAMETER)
    if uri is None:
        raise RequestError(
            f"imageProcessorParameters.{DESCRIPTION_PARAMETER}: is missing, and OIP_ENDPOINT needs "
            "it to turn tiles into tensors, and tensors into boxes or maps; give "
            "s3://bucket/model.json or a path below an allowed root."
        )
    return load_description(str(uri), roots, request.image_processor.assumed_role)
