"""The endpoints: a tile's pixels go in, the model's answer comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tasks.errors import RequestError
from tasks.imagery import Image, TilePixels, check_encodable, encoder, media_type
from tasks.inference.builtin import model
from tasks.inference.http import HttpEndpoint

if TYPE_CHECKING:
    from tasks.request import Request


class Endpoint(Protocol):
    """A model that can be asked about tiles, from several threads at once."""

    def infer(self, tile: TilePixels) -> object:
        """The answer for one tile, decoded from JSON but not yet checked.

        Raises:
            EndpointError: The model did not answer.
            AnswerError: What it answered is not JSON.
        """

    def close(self) -> None:
        """Let go of connections."""


class BuiltinEndpoint:
    """A built-in model called in this process, without encoding."""

    def __init__(self, name: str, parameters: dict[str, str | int | float]) -> None:
        """Look the model up; raises RequestError where there is none of that name."""
        self._model = model(name, parameters)

    def infer(self, tile: TilePixels) -> object:
        """The model's answer for one tile."""
        return self._model(tile.pixels)

    def close(self) -> None:
        """Nothing to let go of."""


def open_endpoint(request: Request, image: Image, timeout: float) -> Endpoint:
    """The endpoint that a request names, ready for tiles of an image.

    Args:
        request: Names the endpoint, its parameters and how tiles are encoded.
        image: Whose tiles will be sent.
        timeout: Seconds to wait for an answer.

    Raises:
        RequestError: No such model, an endpoint type that is not available, or an encoding that
            would lose or corrupt the image's pixels.
    """
    processor, parameters = request.image_processor, request.image_processor_parameters
    match processor.type:
        case "BUILTIN":
            return BuiltinEndpoint(processor.name, parameters)
        case "HTTP_ENDPOINT":
            check_encodable(image, request.tile_format, request.tile_compression)
            encode = encoder(image, request.tile_format, request.tile_compression)
            tile_type = media_type(request.tile_format)
            return HttpEndpoint(processor.name, encode, tile_type, parameters, timeout)
        case other:
            raise RequestError(
                f"imageProcessor.type: {other} is not available in this version; "
                "give BUILTIN or HTTP_ENDPOINT."
            )
