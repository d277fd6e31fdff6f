"""Models behind HTTP: one POST for each tile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tasks.errors import AnswerError, RequestError
from tasks.imagery import TilePixels
from tasks.inference.endpoint import JsonText
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
_OTHER_MEDIA = ("image/", "audio/", "video/", "font/", "multipart/")


class HttpEndpoint:
    """A model at a URL that takes an encoded tile and answers with a FeatureCollection.

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
    ) -> None:
        """Open no connection yet.

        Args:
            url: Where tiles are posted.
            encode: Encodes a tile as the body of a call.
            media_type: Media type of that body.
            parameters: The request's `imageProcessorParameters`: sent as headers, with the values
                of the secrets that they refer to.
            timeout: Seconds that a call may take in all.

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
        self._transport = Transport(timeout, revealed.secrets, checked_addresses)

    def ask(self, prepared: Sequence[bytes]) -> Sequence[object]:
        """The endpoint's answer for one tile.

        Raises:
            EndpointError: See `Transport.send` and `check_status`.
            AnswerError: The body is too long, or its media type is not that of JSON.
        """
        (body,) = prepared
        response = self._transport.post(self.url, self._headers, body)
        check_status(redact_url(self.url), response)
        try:
            check_media_type(response)
        except AnswerError as error:
            raise AnswerError(f"{redact_url(self.url)}: {error}") from error
        return [JsonText(redact_url(self.url), response.body)]

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


def check_media_type(response: Response) -> None:
    """Refuse an answer whose media type is an image, audio, video, a font or multipart.

    Other types are accepted, as servers also send JSON as text/html or without a type.

    Raises:
        AnswerError: The media type is one of these.
    """
    media_type = response.headers.get("content-type", "").strip().lower()
    if media_type.startswith(_OTHER_MEDIA):
        raise AnswerError(f"The answer is {media_type[:80]}, not JSON: check the model's output.")
