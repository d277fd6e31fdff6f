"""The endpoint that a request for the Open Inference Protocol names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import RequestError
from tasks.imagery import Image
from tasks.inference.description import load_description
from tasks.inference.description.sample import blank_tile
from tasks.inference.oip.endpoint import OipEndpoint

if TYPE_CHECKING:
    from tasks.request import Request

_DESCRIPTION = "description"  # the parameter that names it


def open_oip(request: Request, image: Image, roots: Sequence[Path], timeout: float) -> OipEndpoint:
    """The endpoint that a request names, asked about its model, ready for tiles of an image.

    Args:
        request: Names the model's URL, and by the parameter `description` the JSON that describes
            it: s3://bucket/key, read as `assumedRole`, or a path.
        image: Whose tiles will be sent.
        roots: Folders that a path may lie in.
        timeout: Seconds that a call may take in all.

    Raises:
        RequestError: There is no description, or no such model, or it does not take such tiles.
        EndpointError: The server does not answer, or has the model not ready yet.
    """
    processor, parameters = request.image_processor, dict(request.image_processor_parameters)
    uri = parameters.pop(_DESCRIPTION, None)
    if uri is None:
        raise RequestError(
            "imageProcessorParameters.description: is missing, and OIP_ENDPOINT needs it to make "
            "tensors of tiles and boxes of tensors; give s3://bucket/model.json or a path under an "
            "allowed root."
        )
    description = load_description(str(uri), roots, processor.assumed_role)
    described = description.for_image(image, request.tile_size)
    sample = blank_tile(image, request.tile_size)
    return OipEndpoint(processor.name, described, parameters, sample, timeout)
