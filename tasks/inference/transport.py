"""Calls over HTTP: connections kept alive, HTTP/1.1 or 2, one deadline from first to last byte."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from pyreqwest.client import SyncClientBuilder
from pyreqwest.exceptions import BodyDecodeError, DetailedPyreqwestError, PyreqwestError
from pyreqwest.request import SyncRequestBuilder
from pyreqwest.response import SyncResponse

from tasks.errors import AnswerError, EndpointTimeoutError, RequestError, UnreachableError
from tasks.request.locations import redact_url

MAX_BYTES = 16 * 1024 * 1024  # of an answer, decompressed
_CHUNK = 1 << 20
_SHORTEST = 6  # bytes of a secret that is hidden: answers are full of shorter words
_BROKEN = "reading a body from connection"  # in the causes, where it is not the body that is wrong


@dataclass(frozen=True, slots=True)
class Response:
    """What a server sent back.

    Attributes:
        status: HTTP status.
        headers: By name, in lower case.
        body: Decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Connections to servers, for several threads at once.

    HTTP/2 is spoken where a server offers it over TLS. Redirects are not followed: a tile goes
    where the request says, or nowhere. Proxies and certificates are the system's
    (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`).
    """

    def __init__(self, timeout: float, secrets: Collection[str] = ()) -> None:
        """Open no connection yet.

        Args:
            timeout: Seconds that a call may take, from the connection to the answer's last byte.
            secrets: Texts that no reply shows, where a server says again what it was sent.
        """
        self._timeout = timeout
        hidden = [text.encode() for text in secrets if len(text.encode()) >= _SHORTEST]
        self._secrets = sorted(hidden, key=len, reverse=True)  # one may hold another
        self._client = (
            SyncClientBuilder()
            .timeout(timedelta(seconds=timeout))
            .follow_redirects(enable=False)
            .http2(enable=True)
            .http2_adaptive_window(enabled=True)  # else 64 KiB a round trip
            .user_agent("swath")
            .build()
        )

    def get(self, url: str) -> Response:
        """What is at an address.

        Raises:
            As `send`.
        """
        return self.send("GET", url, {})

    def post(self, url: str, headers: Mapping[str, str], body: bytes | bytearray) -> Response:
        """The reply to a body.

        Raises:
            As `send`.
        """
        return self.send("POST", url, headers, body)

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | bytearray | None = None,
    ) -> Response:
        """The reply to a request.

        Args:
            method: Of HTTP.
            url: Where to.
            headers: Sent as they are, beside those that HTTP itself asks for.
            body: Sent without a copy; None for a request that has none.

        Raises:
            EndpointTimeoutError: The last byte of the reply was not there in time.
            UnreachableError: No connection, or one that broke, or that `close` ended.
            AnswerError: The reply is too long, or is not what its Content-Encoding says.
        """
        request = self._client.request(method, url).headers(headers)
        return self._send(url, request if body is None else request.body_bytes(body))

    def close(self) -> None:
        """Close the connections; calls under way in other threads end at once."""
        self._client.close()

    def _send(self, url: str, request: SyncRequestBuilder) -> Response:
        url = redact_url(url)
        try:
            with request.build_streamed() as response:
                headers = _headers(response)
                body = bytearray()
                while (chunk := response.body_reader.read(_CHUNK)) and len(body) <= MAX_BYTES:
                    body += chunk
        except TimeoutError as error:
            raise EndpointTimeoutError(
                f"{url}: no whole answer within {self._timeout:g} s"
            ) from error
        except BodyDecodeError as error:
            if _BROKEN in str(error.details):
                raise UnreachableError(f"{url}: {_cause(error)}") from error
            raise AnswerError(f"{url}: the answer cannot be read: {_cause(error)}") from error
        except PyreqwestError as error:
            raise UnreachableError(f"{url}: {_cause(error)}") from error
        if len(body) > MAX_BYTES:
            raise AnswerError(f"{url}: the answer has more than {MAX_BYTES} bytes")
        reply = Response(response.status, headers, bytes(body))
        return self._without_secrets(reply) if self._secrets else reply

    def _without_secrets(self, reply: Response) -> Response:
        told = {name: self._hide(value.encode()).decode() for name, value in reply.headers.items()}
        return Response(reply.status, told, self._hide(reply.body))

    def _hide(self, text: bytes) -> bytes:
        """A text with asterisks, as many as there were bytes, for what is secret."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, b"*" * len(secret))
        return text


def _headers(response: SyncResponse) -> dict[str, str]:
    """A reply's headers; those that are not text are nothing to us."""
    headers = {}
    for name in response.headers:
        with suppress(ValueError):
            headers[name.lower()] = response.headers[name]
    return headers


def check_sendable(url: str, headers: Mapping[str, str]) -> None:
    """Refuse what no request can be sent to, or with.

    Raises:
        RequestError: With what is wrong with it.
    """
    client = SyncClientBuilder().build()
    try:
        request = client.post(url)
    except ValueError as error:
        raise RequestError(f"imageProcessor.name: {redact_url(url)} is no URL: {error}.") from error
    finally:
        client.close()
    for name, value in headers.items():
        try:
            request.header(name, value)
        except ValueError as error:
            raise RequestError(
                f"imageProcessorParameters.{name}: cannot be sent as a header ({error}): give a "
                "name of letters, digits and hyphens, and a value in one line."
            ) from error


def _cause(error: PyreqwestError) -> str:
    """What lies at the bottom of an error, which its own words leave out."""
    causes = error.details["causes"] if isinstance(error, DetailedPyreqwestError) else None
    return causes[-1]["message"] if causes else error.message
