"""SageMaker's runtime and control plane over HTTP, as AWS documents them, in front of real models.

Signatures are checked as AWS checks them. Errors of AWS and of the network can be injected.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
import re
import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import boto3

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
_PREFIX = "x-amzn-sagemaker-"


@dataclass(frozen=True)
class Refusal:
    """An error as AWS answers it.

    Attributes:
        status: HTTP status.
        kind: `x-amzn-ErrorType`; not sent if empty.
        body: JSON, or bytes sent as they are.
        headers: Further headers.
    """

    status: int
    kind: str = ""
    body: dict[str, Any] | bytes = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


Fault = Refusal | str
"""An error; a fault of the connection: hang, drip, reset, short; or a gzip-compressed answer."""


@dataclass
class Call:
    """A call that arrived with a valid signature.

    Attributes:
        path: Path of the URL.
        key: Access key that it was signed with.
        headers: By name, in lower case.
        body: The body.
    """

    path: str
    key: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Hosted:
    """An endpoint.

    Attributes:
        container: Base URL of the model server.
        told: Result of DescribeEndpoint, without the name.
        fault: Injected at the runtime.
        tags: Tags of the endpoint.
    """

    container: str = ""
    told: dict[str, Any] = field(default_factory=dict)
    fault: Fault | None = None
    tags: dict[str, str] = field(default_factory=dict)


class SageMaker(ThreadingHTTPServer):
    """Endpoints by name.

    Attributes:
        endpoints: Hosted endpoints.
        components: Name of an inference component → result of DescribeInferenceComponent.
        refused: Operation of the control plane → the error that it answers.
        expired: Access keys that are no longer accepted.
        secret: Secret access key of every access key.
        calls: Calls of the runtime.
        asked: Operations of the control plane, in order.
        go: Asynchronous calls wait until it is set.
        enough: Set to release hanging clients.
    """

    daemon_threads = True

    def __init__(self, secret: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoints: dict[str, Hosted] = {}
        self.components: dict[str, dict[str, Any]] = {}
        self.refused: dict[str, Refusal] = {}
        self.expired: set[str] = set()
        self.secret = secret
        self.calls: list[Call] = []
        self.asked: list[str] = []
        self.go, self.enough = Event(), Event()
        self.go.set()
        self.queue = ThreadPoolExecutor(4)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """A client that closes the connection is expected."""


@contextmanager
def sagemaker(secret: str) -> Iterator[SageMaker]:
    """A running server."""
    with SageMaker(secret) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.enough.set()
            server.go.set()
            server.queue.shutdown()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one segment
    server: SageMaker

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        call = Call(self.path, "", {k.lower(): v for k, v in self.headers.items()}, body)
        refusal = self._refusal(call)
        if refusal:
            self._refuse(refusal)
        elif target := self.headers.get("X-Amz-Target"):
            self._control(target.removeprefix("SageMaker."), json.loads(body))
        else:
            self._runtime(call)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""

    def _refusal(self, call: Call) -> Refusal | None:
        call.key, signed = _signed(call)
        if not signed(self.server.secret):
            said = "The request signature we calculated does not match the signature you provided."
            return Refusal(403, "InvalidSignatureException", {"message": said})
        if call.key in self.server.expired:
            said = "The security token included in the request is expired"
            return Refusal(403, "ExpiredTokenException", {"message": said})
        return None

    # --- the control plane: JSON 1.1

    def _control(self, operation: str, asked: dict[str, Any]) -> None:
        self.server.asked.append(operation)
        if refusal := self.server.refused.get(operation):
            return self._refuse(refusal)
        try:
            told = getattr(self, f"_{operation}")(asked)
        except KeyError as error:
            said = f'Could not find endpoint "{ARN}:endpoint/{error.args[0]}".'
            return self._refuse(Refusal(400, "ValidationException", {"message": said}))
        return self._say(200, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _DescribeEndpoint(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = asked["EndpointName"]
        told = {"EndpointStatus": "InService", **self.server.endpoints[name].told}
        return {"EndpointName": name, "EndpointArn": f"{ARN}:endpoint/{name}", **told}

    def _DescribeInferenceComponent(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = asked["InferenceComponentName"]
        told = {"InferenceComponentStatus": "InService", **self.server.components[name]}
        about = {"CreationTime": 1.7e9, "LastModifiedTime": 1.7e9, "EndpointArn": f"{ARN}:endpoint"}
        arn = f"{ARN}:inference-component/{name}"
        return {**about, "InferenceComponentName": name, "InferenceComponentArn": arn, **told}

    def _ListTags(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        endpoint = self.server.endpoints.get(asked["ResourceArn"].rpartition("/")[2], Hosted())
        return {"Tags": [{"Key": key, "Value": value} for key, value in endpoint.tags.items()]}

    # --- the runtime: REST

    def _runtime(self, call: Call) -> None:
        self.server.calls.append(call)
        _, _, name, kind = self.path.split("/")
        endpoint = self.server.endpoints.get(name)
        if endpoint is None:
            said = f"Endpoint {name} of account 123456789012 not found."
            return self._refuse(Refusal(400, "ValidationError", {"Message": said}))
        if isinstance(endpoint.fault, Refusal):
            return self._refuse(endpoint.fault)
        if endpoint.fault in _FAULTS:
            return _FAULTS[endpoint.fault](self)
        if bool(endpoint.told.get("AsyncInferenceConfig")) != (kind == "async-invocations"):
            said = "The endpoint does not support this kind of invocation."
            return self._refuse(Refusal(400, "ValidationError", {"Message": said}))
        return (
            self._invoke_async(endpoint, call) if "async" in kind else self._invoke(endpoint, call)
        )

    def _invoke(self, endpoint: Hosted, call: Call) -> None:
        status, media_type, body = _contain(endpoint, call.headers, call.body)
        if status != 200:
            return self._refuse(_model_error(status, body))
        headers = {"Content-Type": media_type, "x-Amzn-Invoked-Production-Variant": "AllTraffic"}
        if endpoint.fault == "gzip":
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        return self._say(200, body, headers)

    def _invoke_async(self, endpoint: Hosted, call: Call) -> None:
        output = endpoint.told["AsyncInferenceConfig"]["OutputConfig"]
        inference = call.headers.get(_PREFIX + "inference-id") or str(uuid4())
        name = call.headers.get(_PREFIX + "filename") or f"{inference}.out"
        locations = {
            "X-Amzn-SageMaker-OutputLocation": f"{output['S3OutputPath']}/{name}",
            "X-Amzn-SageMaker-FailureLocation": f"{output['S3FailurePath']}/{name}-error.out"
            if "S3FailurePath" in output
            else "",
        }
        given = {key: value for key, value in locations.items() if value}
        self.server.queue.submit(self._work, endpoint, call, *locations.values())
        self._say(202, json.dumps({"InferenceId": inference}).encode(), given)

    def _work(self, endpoint: Hosted, call: Call, output: str, failed: str) -> None:
        """What SageMaker does behind the queue."""
        self.server.go.wait(30)
        s3 = boto3.client("s3")
        try:
            url = urlsplit(call.headers[_PREFIX + "inputlocation"])
            body = s3.get_object(Bucket=url.netloc, Key=url.path[1:])["Body"].read()
            headers = {"content-type": call.headers[_PREFIX + "content-type"]}
            passed = {key: value for key, value in call.headers.items() if "custom" in key}
            status, media_type, answer = _contain(endpoint, headers | passed, body)
        except s3.exceptions.NoSuchKey:
            status, media_type, answer = 400, "text/plain", b"the input is not there"
        where = output
        if status != 200:
            where, answer = failed, json.dumps(_model_error(status, answer).body).encode()
        if where:
            url = urlsplit(where)
            s3.put_object(Bucket=url.netloc, Key=url.path[1:], Body=answer, ContentType=media_type)
        s3.close()

    # --- what goes over the wire

    def _refuse(self, refusal: Refusal) -> None:
        body, control = refusal.body, "X-Amz-Target" in self.headers
        typed = {"__type": refusal.kind} if control else {}
        content = body if isinstance(body, bytes) else json.dumps(typed | body).encode()
        kind = {"x-amzn-ErrorType": refusal.kind} if refusal.kind else {}
        self._say(refusal.status, content, kind | refusal.headers)

    def _say(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        length = {"Content-Length": str(len(body)), "x-amzn-RequestId": str(uuid4())}
        for name, value in (length | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _hang(self) -> None:
        self.server.enough.wait(60)
        self.close_connection = True

    def _drip(self) -> None:
        self._say(200, b"{", {"Content-Length": "99999"})
        self.close_connection = True
        while not self.server.enough.wait(0.05):
            try:
                self.wfile.write(b" ")
                self.wfile.flush()
            except OSError:
                return

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def _short(self) -> None:
        self._say(200, b'{"type":', {"Content-Length": "99999"})
        self.close_connection = True


_FAULTS: dict[Fault | None, Callable[[_Handler], None]] = {
    "hang": _Handler._hang,
    "drip": _Handler._drip,
    "reset": _Handler._reset,
    "short": _Handler._short,
}


def _contain(endpoint: Hosted, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
    """What the container answers: status, media type, body."""
    url = urlsplit(endpoint.container)
    connection = HTTPConnection(url.netloc, timeout=30)
    passed = {
        name: value
        for name, value in headers.items()
        if name in ("content-type", "accept") or name.startswith(_PREFIX)
    }
    try:
        connection.request("POST", f"{url.path}/invocations", body, passed)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read()
    finally:
        connection.close()


def _model_error(status: int, body: bytes) -> Refusal:
    """A container's failure, as SageMaker wraps it."""
    party = "client" if status < 500 else "server"
    said = body.decode(errors="replace")
    fields = {
        "Message": f'Received {party} error ({status}) from primary with message "{said}".',
        "OriginalStatusCode": status,
        "OriginalMessage": said,
        "LogStreamArn": "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/a",
    }
    return Refusal(424, "ModelError", fields)


def _signed(call: Call) -> tuple[str, Callable[[str], bool]]:
    """The key that a call was signed with, and whether the signature is of a secret (SigV4)."""
    match = re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d+/[\w-]+/sagemaker/aws4_request), "
        r"SignedHeaders=([^,]+), Signature=(\w+)",
        call.headers.get("authorization", ""),
    )
    if match is None:
        return "", lambda _: False
    key, scope, names, signature = match.groups()
    lines = [f"{name}:{' '.join(call.headers[name].split())}" for name in names.split(";")]
    digest = hashlib.sha256(call.body).hexdigest()
    canonical = "\n".join(["POST", call.path, "", *lines, "", names, digest])
    hashed = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", call.headers["x-amz-date"], scope, hashed])

    def is_of(secret: str) -> bool:
        signing = b"AWS4" + secret.encode()
        for part in [*scope.split("/"), text]:
            signing = hmac.digest(signing, part.encode(), "sha256")
        return hmac.compare_digest(signing.hex(), signature)

    return key, is_of
