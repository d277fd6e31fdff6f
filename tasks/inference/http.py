"""Models behind HTTP: one POST for each tile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.errors import AnswerError, RequestError
from tasks.imagery import TilePixels
from tasks.inference.endpoint import JsonText, RasterFile
from tasks.inference.endpoint_hosts import check_host, checked_addresses
from tasks.inference.http_status import check_status
from tasks.inference.secrets import reveal
from tasks.inference.transport import Response, Transport, check_sendable
from tasks.request.locations import redact_url

# parameters whose header has another name: OSML sends this one under SageMaker's
_HEADERS = {"customattributes": "x-amzn-sagemaker-custom-attributes"}
_FRAMING = frozenset(
    {"connection", "content-length", "expect", "host", "te", "transfer-encoding", "upgrade"}
)
_RASTERS = ("image/tiff", "image/png", "application/x-npy")
_OTHER_MEDIA = ("image/", "audio/", "video/", "font/", "multipart/")


class HttpEndpoint:
    """A model at a URL that takes an encoded tile and answers with features or a raster.

    Attributes:
        url: Where tiles are posted.
    """

    tiles_per_call = 1
    capacity: int | None = None
    local = False

    def __init__(
        self,
        url: str,
        encode: Callable[[TilePixels], bytes],
        media_type: str,
        parameters: Mapping[str, Any],
        timeout: float,
        *,
        max_answer_bytes: int | None = None,
    ) -> None:
        """Open no connection yet.

        Args:
            url: Where tiles are posted.
            encode: Encodes a tile as the body of a call.
            media_type: Media type of that body.
            parameters: The request's `imageProcessorParameters`: sent as headers, with the values
                of the secrets that they refer to.
            timeout: Seconds that a call may take in all.
            max_answer_bytes: Bytes that an answer may have; None for those of features.

        Raises:
            RequestError: Requests may not call the URL, it or a header is malformed, or a secret
                cannot be read or may not be sent there.
            EndpointError: The store of a secret does not answer; a retry may help.
        """
        check_host(url)
        revealed = reveal(parameters, url)
        self._headers = {"content-type": media_type} | headers(revealed.parameters)
        check_sendable(url, self._headers)
        self.url = url
        self.prepare = encode
        self._transport = Transport(timeout, revealed.secrets, checked_addresses, max_answer_bytes)

    def ask(self, prepared: Sequence[bytes]) -> Sequence[object]:
        """The endpoint's answer for one tile.

        Raises:
            EndpointError: See `Transport.send` and `check_status`.
            AnswerError: The body is too long, or its media type is that of no answer.
        """
        (body,) = prepared
        response = self._transport.post(self.url, self._headers, body)
        check_status(redact_url(self.url), response)
        return [answer_of(redact_url(self.url), response)]

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


def headers(parameters: Mapping[str, Any]) -> dict[str, str]:
    """A request's `imageProcessorParameters` as headers, by name in lower case.

    Raises:
        RequestError: A parameter has the name of a header that HTTP itself sets.
    """
    named = {name.lower(): str(value).strip() for name, value in parameters.items()}
    if refused := sorted(named.keys() & _FRAMING):
        raise RequestError(
            f"imageProcessorParameters.{refused[0]}: over HTTP parameters are sent as headers, and "
            "this one is set by HTTP itself; remove it."
        )
    return {_HEADERS.get(name, name): value for name, value in named.items()}


def answer_of(source: str, response: Response) -> JsonText | RasterFile:
    """The answer in a response: JSON, or a raster by its media type.

    Types that are neither are taken for JSON, as servers also send it as text/html or without one.

    Args:
        source: The endpoint, as error messages name it.
        response: The response.

    Raises:
        AnswerError: The media type is audio, video, a font, multipart or an image of another kind.
    """
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in _RASTERS:
        return RasterFile(source, media_type, response.body)
    if media_type.startswith(_OTHER_MEDIA):
        raise AnswerError(
            f"{source}: The answer is {media_type[:80]}, neither JSON nor a raster "
            f"({', '.join(_RASTERS)}): check the model's output."
        )
    return JsonText(source, response.body)
