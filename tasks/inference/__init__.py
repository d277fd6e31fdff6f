"""The endpoints: a tile's pixels go in, the model's answer comes out."""

from __future__ import annotations

import time

from tasks.errors import EndpointError
from tasks.imagery import Image, check_encodable, encoder, media_type
from tasks.inference.builtin.endpoint import BuiltinEndpoint
from tasks.inference.endpoint import Boxes, Endpoint
from tasks.inference.http import HttpEndpoint
from tasks.inference.retry import RetryBudget, RetryState
from tasks.request import Request
from tasks.request.processor import EndpointType
from tasks.settings import settings
from tasks.storage.objects import join

_ENDLESS = 1_000_000  # attempts: patience is what ends

__all__ = [
    "Boxes",
    "BuiltinEndpoint",
    "Endpoint",
    "HttpEndpoint",
    "open_endpoint",
    "open_with_retries",
]


def open_with_retries(request: Request, image: Image) -> Endpoint:
    """The endpoint that a request names, once it lets itself be opened.

    A server that is only starting, or was busy for a moment, is asked again, as for a tile.

    Raises:
        RequestError: As `open_endpoint`.
        EndpointError: It does not tell what must be known of it, in spite of all patience.
        AnswerError: What it tells cannot be read.
    """
    tries = RetryState(_ENDLESS, settings().endpoint_patience, RetryBudget(_ENDLESS))
    while True:
        try:
            return open_endpoint(request, image, settings().endpoint_timeout)
        except EndpointError as error:
            time.sleep(tries.wait(error))


def open_endpoint(request: Request, image: Image, timeout: float) -> Endpoint:
    """The endpoint that a request names, ready for tiles of an image.

    Args:
        request: Names the endpoint, its parameters and how tiles are encoded.
        image: Whose tiles will be sent.
        timeout: Seconds to wait for an answer.

    Raises:
        RequestError: No such model, parameters that it does not take, or an encoding that would
            lose or corrupt the image's pixels.
        EndpointError: Its server does not tell what it must be known of it.
        AnswerError: What its server tells cannot be read.
    """
    processor, parameters = request.image_processor, request.image_processor_parameters
    match processor.type:
        case EndpointType.BUILTIN:
            return BuiltinEndpoint(processor.name, parameters)
        case EndpointType.HTTP_ENDPOINT:
            check_encodable(image, request.tile_format, request.tile_compression)
            encode = encoder(image, request.tile_format, request.tile_compression)
            tile_type = media_type(request.tile_format)
            return HttpEndpoint(processor.name, encode, tile_type, parameters, timeout)
        # the others take a while to load, which runs that ask none of them need not wait for
        case EndpointType.SM_ENDPOINT:
            from tasks.inference.sagemaker import open_sagemaker  # noqa: PLC0415

            return open_sagemaker(
                request,
                image,
                timeout,
                async_timeout=settings().async_timeout,
                async_uri=settings().async_uri or join(settings().work_uri, "async"),
                instance_concurrency=settings().instance_concurrency,
            )
        case EndpointType.OIP_ENDPOINT:
            from tasks.inference.oip import open_oip  # noqa: PLC0415

            return open_oip(request, image, settings().local_roots, timeout)
        case EndpointType.ONNX:
            from tasks.inference.onnx import open_onnx  # noqa: PLC0415

            return open_onnx(request, image, settings().local_roots, timeout)
