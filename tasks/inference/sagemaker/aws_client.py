"""Calls of AWS: botocore makes and signs the requests, `Transport` sends them.

With `Transport`, a call has one deadline for its complete response, and `close` ends calls in
flight; botocore's own connections can do neither.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from threading import Lock
from typing import Any

import orjson
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from tasks.aws.clients import make_client, renew_credentials
from tasks.inference.sagemaker.aws_errors import credentials_expired, endpoint_error
from tasks.inference.transport import Response, Transport

_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 1},  # the caller retries
    request_checksum_calculation="when_required",  # the signature covers the body
    response_checksum_validation="when_required",
)
# headers that the HTTP client sets itself; it does not wait for "100 Continue"
_NOT_SENT = ("content-length", "expect", "transfer-encoding")
# headers that do not describe the decompressed body
_NOT_RETURNED = ("content-length", "content-encoding", "transfer-encoding")
_ERROR = 300  # HTTP statuses from here on are errors


class AwsClient:
    """Calls AWS as one identity, from several threads at once."""

    def __init__(
        self, role_arn: str | None, timeout: float, max_answer_bytes: int | None = None
    ) -> None:
        """Open no connection yet.

        Args:
            role_arn: IAM role of the calls, or None for the process's own identity.
            timeout: Seconds that a call may take in all.
            max_answer_bytes: Bytes that a model's answer may have; None for those of features.
        """
        self._role = role_arn
        self._transport = Transport(timeout, max_answer_bytes=max_answer_bytes)
        self._lock = Lock()
        self._clients: dict[str, Any] = {}

    def call(self, service: str, operation: str, where: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        """The result of an operation; its streamed body, if it has one, as bytes.

        Only a call with expired credentials is retried, once, with fresh ones.

        Args:
            service: Service, as boto3 names it: `sagemaker-runtime`.
            operation: Operation, as boto3 names it: `invoke_endpoint`.
            where: The endpoint or the object, as messages name it.
            **arguments: Arguments of the operation.

        Raises:
            EndpointError: See `endpoint_error` and `Transport.send`.
            AnswerError: See `Transport.send`.
        """
        client = self._client(service)
        try:
            return _call(client, operation, arguments)
        except (ClientError, BotoCoreError, ResponseParserError) as error:
            if not credentials_expired(error):
                raise endpoint_error(where, error) from error
        try:
            return _call(self._renewed(service, client), operation, arguments)
        except (ClientError, BotoCoreError, ResponseParserError) as error:
            raise endpoint_error(where, error) from error

    def close(self) -> None:
        """Close the connections; calls in flight in other threads end at once."""
        self._transport.close()

    def _client(self, service: str) -> Any:  # noqa: ANN401 - a type for each service
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._connected(service)
            return self._clients[service]

    def _renewed(self, service: str, stale: Any) -> Any:  # noqa: ANN401
        """A client with fresh credentials, fetched by the first thread that needs them.

        Args:
            service: Service, as boto3 names it.
            stale: The client whose credentials have expired.
        """
        with self._lock:
            if self._clients.get(service) is stale:
                renew_credentials()
                self._clients.clear()
        return self._client(service)

    def _connected(self, service: str) -> Any:  # noqa: ANN401
        try:
            client = make_client(service, self._role, _CONFIG)
        except BotoCoreError as error:  # no region, a profile that does not exist
            raise endpoint_error(f"AWS ({service})", error) from error
        json_errors = client.meta.service_model.resolved_protocol == "rest-json"
        client.meta.events.register(
            f"before-send.{client.meta.service_model.service_id.hyphenize()}",
            _sender(self._transport, json_errors=json_errors),
        )
        return client


def _sender(transport: Transport, *, json_errors: bool) -> Callable[..., AWSResponse]:
    """A function that sends botocore's signed requests over a transport."""

    def send(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        headers = {
            name: value.decode() if isinstance(value, bytes) else str(value)
            for name, value in request.headers.items()
            if name.lower() not in _NOT_SENT
        }
        response = transport.send(str(request.method), str(request.url), headers, _body(request))
        kept = HTTPHeaders()
        for name, value in response.headers.items():
            if name not in _NOT_RETURNED:
                kept[name] = value
        body = (
            _json_object(response) if json_errors and response.status >= _ERROR else response.body
        )
        return AWSResponse(request.url, response.status, kept, _Raw(body))

    return send


class _Raw(BytesIO):
    """A response's body with the interface that botocore expects."""

    def stream(self) -> list[bytes]:
        """The body in one part."""
        return [self.getvalue()]


def _body(request: AWSPreparedRequest) -> bytes | bytearray | None:
    """The body of a request in bytes; botocore gives a body for S3 as a file in memory."""
    body = request.body
    if body is None or isinstance(body, bytes | bytearray):
        return body
    content = body if isinstance(body, str) else body.read()
    return content.encode() if isinstance(content, str) else content


def _json_object(response: Response) -> bytes:
    """An error's body as the JSON object that botocore expects: a proxy may send anything."""
    try:
        if isinstance(orjson.loads(response.body), dict):
            return response.body
    except orjson.JSONDecodeError:
        pass
    return orjson.dumps({"message": response.body.decode(errors="replace")})


def _call(client: Any, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    result: dict[str, Any] = getattr(client, operation)(**arguments)
    if hasattr(result.get("Body"), "read"):
        result["Body"] = result["Body"].read()
    return result
