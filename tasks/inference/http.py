"""Models behind HTTP: one POST a tile, connections kept alive."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from tasks.errors import (
    AnswerError,
    EndpointError,
    Permanent,
    RequestError,
    Throttled,
    Transient,
)
from tasks.imagery import TilePixels
from tasks.inference.answer import MAX_BYTES, parse

_THROTTLING = (429, 503)
_TRANSIENT = (408, 425)
# OSML sends this parameter under SageMaker's header, every other under its own name
_HEADERS = {"CustomAttributes": "X-Amzn-SageMaker-Custom-Attributes"}


class HttpEndpoint:
    """A model at a URL that takes an encoded tile and answers with a FeatureCollection.

    Attributes:
        url: Where tiles are posted to.
    """

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
            url: Where to post to.
            encode: Makes the body of a tile's pixels.
            media_type: Content type of that body.
            parameters: The request's `imageProcessorParameters`, sent as headers.
            timeout: Seconds to wait for a connection, and for an answer to its last byte.

        Raises:
            RequestError: Nothing can be posted to that URL.
        """
        try:
            httpx.URL(url).host.encode("idna")
        except (httpx.InvalidURL, UnicodeError) as error:
            raise RequestError(f"imageProcessor.name: {url!r} is no URL: {error}.") from error
        self.url = url
        self._encode = encode
        self._timeout = timeout
        headers = {
            _HEADERS.get(name, name).encode(): str(value).strip().encode()
            for name, value in parameters.items()
        }
        self._client = httpx.Client(
            headers={b"Content-Type": media_type.encode()} | headers,
            timeout=timeout,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        )

    def infer(self, tile: TilePixels) -> object:
        """The endpoint's answer for one tile, decoded from JSON.

        Raises:
            Throttled: 429 or 503, with the seconds of Retry-After.
            Transient: Another 5xx, a connection that broke, a time-out.
            Permanent: Any other status.
            AnswerError: The body is not JSON, or too long.
        """
        try:
            with self._client.stream("POST", self.url, content=self._encode(tile)) as response:
                body = self._read(response)
            if response.status_code != httpx.codes.OK:
                raise _failure(self.url, response, body)
            return parse(body)
        except httpx.TransportError as error:
            raise Transient(f"{self.url}: {type(error).__name__} {error}".rstrip()) from error
        except (httpx.DecodingError, AnswerError) as error:
            raise AnswerError(f"{self.url}: {error}") from error

    def _read(self, response: httpx.Response) -> bytes:
        """A body as it comes, to where it is too long; one that trickles in times out too."""
        deadline = time.monotonic() + self._timeout
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > MAX_BYTES:
                break
            if time.monotonic() > deadline:
                raise httpx.ReadTimeout(f"after {self._timeout:g} s and {len(body)} bytes")
        return bytes(body)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _failure(url: str, response: httpx.Response, body: bytes) -> EndpointError:
    status, target = response.status_code, response.headers.get("Location")
    reason = f"name {target} instead" if target else body[:200].decode(errors="replace").strip()
    message = f"{url} answered HTTP {status}: {reason or response.reason_phrase}"
    if status in _THROTTLING:
        return Throttled(message, _seconds(response.headers.get("Retry-After")))
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in _TRANSIENT:
        return Transient(message)
    return Permanent(message)


def _seconds(retry_after: str | None) -> float | None:
    """Seconds of a Retry-After header; its date form counts as none given."""
    try:
        return None if retry_after is None else max(0.0, float(retry_after))
    except ValueError:
        return None
