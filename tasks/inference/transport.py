"""HTTP client: persistent connections, HTTP/1.1 or 2, one deadline from first to last byte."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from pyreqwest.client import SyncClientBuilder
from pyreqwest.exceptions import (
    BodyDecodeError,
    DetailedPyreqwestError,
    PyreqwestError,
)
from pyreqwest.request import SyncRequestBuilder
from pyreqwest.response import SyncResponse

from tasks.errors import AnswerError, EndpointTimeoutError, RequestError, UnreachableError
from tasks.inference.pinned_clients import PinnedClients
from tasks.request.locations import redact_url

MAX_ANSWER_BYTES = 16 * 1024 * 1024  # decompressed
_CHUNK = 1 << 20
_MIN_MASKED = 6  # bytes of a secret: a shorter one would also match ordinary text
_NOT_CONNECTED = "client error (Connect)"  # in the causes; absent if the connection broke later
_CONNECTION_BROKE = "reading a body from connection"  # in the causes; absent for a malformed body


@dataclass(frozen=True, slots=True)
class Response:
    """A server's response.

    Attributes:
        status: HTTP status.
        headers: Values by the headers' names in lower case.
        body: The decompressed body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """Connections to servers, for several threads at once.

    HTTP/2 is used if a server offers it over TLS. Redirects are not followed: a tile is sent only
    to the URL in the request. Proxies and certificates are the system's
    (`HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`).
    """

    def __init__(
        self,
        timeout: float,
        secrets: Collection[str] = (),
        addresses_of: Callable[[str], list[str]] = lambda _: [],
        max_answer_bytes: int | None = None,
    ) -> None:
        """Open no connection yet.

        Args:
            timeout: Seconds that a call may take, from connecting to the response's last byte.
            secrets: Texts that are masked in responses, as a server may repeat what it received.
            addresses_of: Looks up and checks the addresses of a URL, see `PinnedClients`.
            max_answer_bytes: Bytes that a response may have; None for `MAX_ANSWER_BYTES`.
        """
        self._timeout = timeout
        self._max_bytes = max_answer_bytes or MAX_ANSWER_BYTES
        masked = [text.encode() for text in secrets if len(text.encode()) >= _MIN_MASKED]
        self._secrets = sorted(masked, key=len, reverse=True)  # one may contain another
        self._clients = PinnedClients(self._builder, addresses_of)

    def post(self, url: str, headers: Mapping[str, str], body: bytes | bytearray) -> Response:
        """The response to a POST.

        Raises:
            EndpointError: See `send`.
            AnswerError: See `send`.
        """
        return self.send("POST", url, headers, body)

    def send(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | bytearray | None = None,
    ) -> Response:
        """The response to a request.

        Args:
            method: HTTP method.
            url: Where the request is sent.
            headers: Sent unchanged, in addition to those that HTTP requires.
            body: Sent without a copy; None for a request without a body.

        Raises:
            EndpointTimeoutError: The response was not complete in time.
            UnreachableError: There is no connection, or it broke, or `close` ended it.
            AnswerError: The response is too long, or cannot be decompressed.
            SwathError: See `addresses_of`.
        """
        clients = self._clients.of(url)
        for client in clients:
            request = client.request(method, url).headers(headers)
            try:
                return self._send(url, request if body is None else request.body_bytes(body))
            except UnreachableError as error:
                if error.connected:
                    raise
                self._clients.forget(url, client)
                if client is clients[-1]:
                    raise
        raise AssertionError

    def close(self) -> None:
        """Close the connections; calls in flight in other threads end at once."""
        self._clients.close()

    def _builder(self) -> SyncClientBuilder:
        return (
            SyncClientBuilder()
            .timeout(timedelta(seconds=self._timeout))
            .follow_redirects(enable=False)
            .http2(enable=True)
            .http2_adaptive_window(enabled=True)  # else 64 KiB per round trip
            .user_agent("swath")
        )

    def _send(self, url: str, request: SyncRequestBuilder) -> Response:
        url = redact_url(url)
        try:
            with request.build_streamed() as response:
                headers = _headers(response)
                body = bytearray()
                reader = response.body_reader
                while (chunk := reader.read(_CHUNK)) and len(body) <= self._max_bytes:
                    body += chunk
        except TimeoutError as error:
            raise EndpointTimeoutError(
                f"{url}: no complete answer within {self._timeout:g} s"
            ) from error
        except BodyDecodeError as error:
            if _CONNECTION_BROKE in str(error.details):
                raise UnreachableError(f"{url}: {_cause(error)}") from error
            raise AnswerError(f"{url}: the answer cannot be read: {_cause(error)}") from error
        except PyreqwestError as error:
            connected = _NOT_CONNECTED not in _causes(error)
            raise UnreachableError(f"{url}: {_cause(error)}", connected=connected) from error
        if len(body) > self._max_bytes:
            raise AnswerError(f"{url}: the answer has more than {self._max_bytes} bytes")
        received = Response(response.status, headers, bytes(body))
        return self._mask_all(received) if self._secrets else received

    def _mask_all(self, response: Response) -> Response:
        headers = {
            name: self._mask(value.encode()).decode() for name, value in response.headers.items()
        }
        return Response(response.status, headers, self._mask(response.body))

    def _mask(self, text: bytes) -> bytes:
        """The text, with each byte of a secret replaced by an asterisk."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, b"*" * len(secret))
        return text


def _headers(response: SyncResponse) -> dict[str, str]:
    """A response's headers by name in lower case, without those that are not text."""
    headers = {}
    for name in response.headers:
        with suppress(ValueError):
            headers[name.lower()] = response.headers[name]
    return headers


def check_sendable(url: str, headers: Mapping[str, str]) -> None:
    """Check that a request can be sent to a URL with these headers.

    Raises:
        RequestError: The URL or a header is malformed.
    """
    client = SyncClientBuilder().build()
    try:
        request = client.post(url)
    except ValueError as error:
        raise RequestError(
            f"imageProcessor.name: {redact_url(url)} is not a URL: {error}."
        ) from error
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
    """The innermost cause of an error, which its message does not include."""
    return (_causes(error) or [error.message])[-1]


def _causes(error: PyreqwestError) -> list[str]:
    """The causes of an error, the innermost one last."""
    causes = error.details["causes"] if isinstance(error, DetailedPyreqwestError) else None
    return [cause["message"] for cause in causes or []]
