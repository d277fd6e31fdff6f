"""Calls of AWS: in botocore's words and with its signatures, over our own connections.

So one deadline holds from the first byte to the last, and `close` ends a call under way, neither of
which botocore's own connections offer.
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

from tasks.aws.clients import renew_credentials, session
from tasks.inference.sagemaker.failures import expired, failure
from tasks.inference.transport import Response, Transport

_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 1},  # who calls knows better
    request_checksum_calculation="when_required",  # the signature covers what is sent
    response_checksum_validation="when_required",
)
# hyper counts the bytes itself, and waits for no leave to send them
_NOT_SENT = ("content-length", "expect", "transfer-encoding")
# of a body that has been decompressed
_NOT_TOLD = ("content-length", "content-encoding", "transfer-encoding")
_ERROR = 300


class Wire:
    """One identity's calls of AWS, from several threads at once."""

    def __init__(self, role_arn: str | None, timeout: float) -> None:
        """Open no connection yet.

        Args:
            role_arn: IAM role to call as, or None for the process's own identity.
            timeout: Seconds that a call may take in all.
        """
        self._role = role_arn
        self._transport = Transport(timeout)
        self._lock = Lock()
        self._clients: dict[str, Any] = {}

    def call(self, service: str, operation: str, where: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        """The answer of an operation; its streamed body, if it has one, as bytes.

        Nothing is tried again, but with other credentials where those at hand have expired.

        Args:
            service: In boto3's words, such as `sagemaker-runtime`.
            operation: In boto3's words, such as `invoke_endpoint`.
            where: What is called, for the error's sake.
            **arguments: Of the operation.

        Raises:
            EndpointError: As `tasks.inference.sagemaker.failures` and `Transport` tell.
            AnswerError: As `Transport` tells.
        """
        client = self._client(service)
        try:
            return _call(client, operation, arguments)
        except (ClientError, BotoCoreError, ResponseParserError) as error:
            if not expired(error):
                raise failure(where, error) from error
        try:
            return _call(self._renewed(service, client), operation, arguments)
        except (ClientError, BotoCoreError, ResponseParserError) as error:
            raise failure(where, error) from error

    def close(self) -> None:
        """Close the connections; calls under way in other threads end at once."""
        self._transport.close()

    def _client(self, service: str) -> Any:  # noqa: ANN401 - a type for each service
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._connected(service)
            return self._clients[service]

    def _renewed(self, service: str, stale: Any) -> Any:  # noqa: ANN401
        """A client with credentials that were looked for anew, by the first who needs it."""
        with self._lock:
            if self._clients.get(service) is stale:
                renew_credentials()
                self._clients.clear()
        return self._client(service)

    def _connected(self, service: str) -> Any:  # noqa: ANN401
        try:
            client = session(self._role).client(service, config=_CONFIG)  # type: ignore[call-overload]
        except BotoCoreError as error:  # no region, a profile that does not exist
            raise failure(f"AWS ({service})", error) from error
        json_errors = client.meta.service_model.resolved_protocol == "rest-json"
        client.meta.events.register(
            f"before-send.{client.meta.service_model.service_id.hyphenize()}",
            _sender(self._transport, json_errors=json_errors),
        )
        return client


def _sender(transport: Transport, *, json_errors: bool) -> Callable[..., AWSResponse]:
    """What botocore asks for the answer to a request that it has made and signed."""

    def send(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        headers = {
            name: value.decode() if isinstance(value, bytes) else str(value)
            for name, value in request.headers.items()
            if name.lower() not in _NOT_SENT
        }
        reply = transport.send(str(request.method), str(request.url), headers, _body(request))
        told = HTTPHeaders()
        for name, value in reply.headers.items():
            if name not in _NOT_TOLD:
                told[name] = value
        body = _object(reply) if json_errors and reply.status >= _ERROR else reply.body
        return AWSResponse(request.url, reply.status, told, _Raw(body))

    return send


class _Raw(BytesIO):
    """A body as botocore reads one."""

    def stream(self) -> list[bytes]:
        """All of it."""
        return [self.getvalue()]


def _body(request: AWSPreparedRequest) -> bytes | bytearray | None:
    """The bytes to send; S3's come as a file in memory."""
    body = request.body
    if body is None or isinstance(body, bytes | bytearray):
        return body
    content = body if isinstance(body, str) else body.read()
    return content.encode() if isinstance(content, str) else content


def _object(reply: Response) -> bytes:
    """An error's body as the JSON object that botocore takes it for; proxies send anything."""
    try:
        if isinstance(orjson.loads(reply.body), dict):
            return reply.body
    except orjson.JSONDecodeError:
        pass
    return orjson.dumps({"message": reply.body.decode(errors="replace")})


def _call(client: Any, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    told: dict[str, Any] = getattr(client, operation)(**arguments)
    if hasattr(told.get("Body"), "read"):
        told["Body"] = told["Body"].read()
    return told
