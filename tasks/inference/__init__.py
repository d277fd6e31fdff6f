"""Inference: the endpoints of models, and the calls that send them tiles and read their answers."""

from __future__ import annotations

import time
from collections.abc import Callable

from tasks.errors import EndpointError
from tasks.imagery import Image, check_encodable, encoder, media_type
from tasks.inference.answer.raster import answer_bytes
from tasks.inference.builtin import BuiltinEndpoint
from tasks.inference.endpoint import Boxes, Endpoint
from tasks.inference.http import HttpEndpoint
from tasks.inference.retry import RetryBudget, RetryState
from tasks.inference.transport import MAX_ANSWER_BYTES
from tasks.request import Request
from tasks.request.processor import EndpointType
from tasks.settings import settings
from tasks.storage.objects import join

OpenEndpoint = Callable[[Request, Image], Endpoint]
"""Opens the endpoint for a request's image: `open_with_retries`, or a function that opens a model
which no message can name."""

_HEADER_BYTES = 1 << 20  # of a raster, beside its pixels
_UNLIMITED = 1_000_000  # attempts: the time for retries is the limit

__all__ = [
    "Boxes",
    "BuiltinEndpoint",
    "Endpoint",
    "HttpEndpoint",
    "OpenEndpoint",
    "open_endpoint",
    "open_with_retries",
]


def open_with_retries(request: Request, image: Image) -> Endpoint:
    """Call `open_endpoint` until it succeeds: a server may be starting, or overloaded.

    Retried with the same delays as a tile's calls.

    Raises:
        RequestError: See `open_endpoint`.
        EndpointError: The server did not answer within `SWATH_ENDPOINT_PATIENCE`.
        AnswerError: See `open_endpoint`.
    """
    unlimited = RetryBudget(_UNLIMITED)
    state = RetryState(_UNLIMITED, settings().endpoint_patience, unlimited)
    while True:
        try:
            return open_endpoint(request, image, settings().endpoint_timeout)
        except EndpointError as error:
            time.sleep(state.delay(error))


def open_endpoint(request: Request, image: Image, timeout: float) -> Endpoint:
    """The endpoint that a request names, ready for tiles of an image.

    Args:
        request: Names the endpoint, its parameters and how tiles are encoded.
        image: The image whose tiles will be sent.
        timeout: Seconds that a call may take.

    Raises:
        RequestError: The model does not exist, does not take a parameter, or gets tiles in an
            encoding that would lose or corrupt the image's pixels.
        EndpointError: The server did not answer with a description of its model; a retry may help.
        AnswerError: The server's description of its model cannot be read.
    """
    processor, parameters = request.image_processor, request.image_processor_parameters
    limit = _largest_answer(request, image)
    match processor.type:
        case EndpointType.BUILTIN:
            raster = request.raster_output is not None
            return BuiltinEndpoint(processor.name, parameters, raster=raster)
        case EndpointType.HTTP_ENDPOINT:
            check_encodable(image, request.tile_format, request.tile_compression)
            encode = encoder(image, request.tile_format, request.tile_compression)
            tile_type = media_type(request.tile_format)
            return HttpEndpoint(
                processor.name, encode, tile_type, parameters, timeout, max_answer_bytes=limit
            )
        # imported late: these modules load slowly, and a run needs at most one of them
        case EndpointType.SM_ENDPOINT:
            from tasks.inference.sagemaker import open_sagemaker  # noqa: PLC0415

            return open_sagemaker(
                request,
                image,
                timeout,
                async_timeout=settings().async_timeout,
                async_uri=settings().async_uri or join(settings().work_uri, "async"),
                instance_concurrency=settings().instance_concurrency,
                max_answer_bytes=limit,
            )
        case EndpointType.OIP_ENDPOINT:
            from tasks.inference.oip import open_oip  # noqa: PLC0415

            return open_oip(request, image, settings().local_roots, timeout)
        case EndpointType.ONNX:
            from tasks.inference.onnx import open_onnx  # noqa: PLC0415

            return open_onnx(request, image, settings().local_roots, timeout)


def _largest_answer(request: Request, image: Image) -> int:
    """Bytes that an answer may have: that of a raster as many as a tile's numbers take."""
    output, size = request.raster_output, request.tile_size
    if output is None:
        return MAX_ANSWER_BYTES
    sides = (size, size) if output.full_tiles else (min(size, image.width), min(size, image.height))
    return max(MAX_ANSWER_BYTES, answer_bytes(output, *sides) + _HEADER_BYTES)
