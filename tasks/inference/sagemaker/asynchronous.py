"""Asynchronous endpoints of SageMaker: they read tiles from S3, and write answers to S3."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any
from uuid import uuid4

from tasks.errors import EndpointError, EndpointTimeoutError, TransientError
from tasks.imagery import TilePixels
from tasks.inference.excerpt import excerpt
from tasks.inference.http_status import status_error
from tasks.inference.sagemaker.aws_client import AwsClient
from tasks.inference.sagemaker.payload import ASYNCHRONOUS
from tasks.inference.sagemaker.real_time import result_answer
from tasks.inference.sagemaker.s3_exchange import S3Exchange
from tasks.storage.objects import join

_CLEANUP_SECONDS = 5.0  # for each call that removes objects from S3 on closing
_QUEUE_SECONDS = (60, 21_600)  # AWS's limits for RequestTTLSeconds
_MODEL_SECONDS = (1, 3600)  # AWS's limits for InvocationTimeoutSeconds


class AsynchronousEndpoint:
    """A model behind InvokeEndpointAsync that answers with features or a raster."""

    tiles_per_call = 1
    local = False

    def __init__(
        self,
        name: str,
        *,
        encode: Callable[[TilePixels], bytes],
        arguments: Mapping[str, Any],
        role_arn: str | None,
        folder: str,
        call_timeout: float,
        max_answer_bytes: int | None,
        timeout: float,
        capacity: int | None,
    ) -> None:
        """Open no connection yet.

        Args:
            name: Name of the endpoint.
            encode: Encodes a tile as the object that the model reads.
            arguments: Arguments of InvokeEndpointAsync, except those that depend on the tile.
            role_arn: IAM role with which SageMaker and S3 are called, or None for the process's own
                identity.
            folder: Where tiles are stored: `s3://bucket/prefix`.
            call_timeout: Seconds that a call of AWS may take in all.
            max_answer_bytes: Bytes that an answer may have; None for those of features.
            timeout: Seconds from the upload of a tile to its answer.
            capacity: Calls that it takes at a time; None if unknown.
        """
        self.prepare, self.capacity = encode, capacity
        self._where = f"SageMaker endpoint {name}"
        # the model must not work on a tile after its time-out
        self._arguments = {
            "RequestTTLSeconds": _clamped(timeout, *_QUEUE_SECONDS),
            "InvocationTimeoutSeconds": _clamped(timeout, *_MODEL_SECONDS),
            **arguments,
            "EndpointName": name,
        }
        self._role, self._aws = role_arn, AwsClient(role_arn, call_timeout, max_answer_bytes)
        self._folder, self._timeout = folder, timeout
        self._token = uuid4().hex[:16]
        self._exchange = S3Exchange(self._aws, self._token)
        self._lock = Lock()
        self._objects: set[str] = set()  # URIs that may be in S3
        self._closed = False

    def ask(self, prepared: Sequence[bytes]) -> Sequence[object]:
        """The model's answer for one tile; its objects in S3 are removed.

        Raises:
            EndpointError: See `AwsClient.call`; PermanentError for a tile that is too large;
                EndpointTimeoutError for an answer that did not come in time.
            AnswerError: The answer is too long, or its media type is that of no answer.
        """
        (body,) = prepared
        ASYNCHRONOUS.check(len(body))
        deadline = time.monotonic() + self._timeout
        name = self._token + uuid4().hex[:16]  # SageMaker allows at most 32 characters
        tile = join(self._folder, name)
        self._note(tile)
        outputs: list[str] = []
        try:
            self._exchange.put(tile, body)
            outputs = self._invoke(tile, name)
            found, result = self._await(tile, outputs, deadline)
        except TransientError:
            # S3 may be unreachable, or the answer may still be written: `close` removes the objects
            raise
        except BaseException:
            self._remove([tile, *outputs])
            raise
        self._remove([tile, *outputs])
        if found != outputs[0]:
            raise _model_error(self._where, result["Body"])
        return [result_answer(self._where, result)]

    def close(self) -> None:
        """End all waiting, close the connections, and remove the remaining objects from S3."""
        with self._lock:
            self._closed, remaining = True, sorted(self._objects)
        self._exchange.close()
        self._aws.close()
        if remaining:
            aws = AwsClient(self._role, _CLEANUP_SECONDS)
            S3Exchange(aws, self._token).remove(remaining)
            aws.close()

    def _invoke(self, tile: str, name: str) -> list[str]:
        """Submit a tile; return the URIs of its answer and, if SageMaker names one, its failure."""
        result = self._aws.call(
            "sagemaker-runtime",
            "invoke_endpoint_async",
            self._where,
            **self._arguments,
            InputLocation=tile,
            Filename=name,
        )
        if not result.get("OutputLocation"):
            raise TransientError(f"{self._where}: InvokeEndpointAsync named no OutputLocation")
        outputs = [result["OutputLocation"], *filter(None, [result.get("FailureLocation")])]
        self._note(*outputs)
        return outputs

    def _await(
        self, tile: str, outputs: Sequence[str], deadline: float
    ) -> tuple[str, dict[str, Any]]:
        try:
            return self._exchange.first_object(outputs, deadline)
        except EndpointTimeoutError as error:
            self._remove([tile])  # so that the model skips it
            raise EndpointTimeoutError(
                f"{self._where}: {error} ({self._timeout:g} s, SWATH_ASYNC_TIMEOUT)"
            ) from error

    def _note(self, *uris: str) -> None:
        with self._lock:
            self._objects.update(uris)

    def _remove(self, uris: Sequence[str]) -> None:
        """Remove objects, unless `close` was called, which removes all of them."""
        with self._lock:
            if self._closed:
                return
            self._objects.difference_update(uris)
        self._exchange.remove(uris)


def _model_error(where: str, body: bytes) -> EndpointError:
    """The error in an object at the failure location: "Received server error (500) from …"."""
    text = excerpt(body)
    status = re.search(r"(?:client|server) error \((\d{3})\)", text)
    message = f"{where}: the model failed: {text}"
    return status_error(message, int(status[1])) if status else TransientError(message)


def _clamped(seconds: float, least: int, most: int) -> int:
    return int(min(max(seconds, least), most))
