"""Asynchronous endpoints of SageMaker: a tile goes to S3, the answer comes to S3."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import Any
from uuid import uuid4

from tasks.errors import EndpointError, EndpointTimeoutError, TransientError
from tasks.imagery import TilePixels
from tasks.inference.http_status import status_error
from tasks.inference.sagemaker.exchange import Exchange
from tasks.inference.sagemaker.payload import ASYNCHRONOUS
from tasks.inference.sagemaker.real_time import json_of
from tasks.inference.sagemaker.wire import Wire
from tasks.storage.objects import join

_LAST_WORDS = 5.0  # seconds for what is left in S3, per call, once the endpoint is closed
_SHOWN = 300  # bytes of what went wrong
_QUEUED = (60, 21_600)  # seconds that a request may stay in the queue, by AWS
_WORKED_ON = (1, 3600)  # seconds that a model may take, by AWS


class AsynchronousEndpoint:
    """A model behind InvokeEndpointAsync that answers with a FeatureCollection."""

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
        timeout: float,
        capacity: int | None,
    ) -> None:
        """Open no connection yet.

        Args:
            name: Of the endpoint.
            encode: Makes the body of a tile's pixels.
            arguments: Of InvokeEndpointAsync, but those that the tile gives.
            role_arn: IAM role to call it and S3 as, or None for the process's own identity.
            folder: Where tiles are put: `s3://bucket/prefix`.
            call_timeout: Seconds that a call of AWS may take in all.
            timeout: Seconds from a tile's way to S3 to its answer.
            capacity: Calls that it takes at a time; None where only trying tells.
        """
        self.prepare, self.capacity = encode, capacity
        self._where = f"SageMaker endpoint {name}"
        # what is no longer waited for shall not be worked on
        self._arguments = {
            "RequestTTLSeconds": _within(timeout, *_QUEUED),
            "InvocationTimeoutSeconds": _within(timeout, *_WORKED_ON),
            **arguments,
            "EndpointName": name,
        }
        self._role, self._wire = role_arn, Wire(role_arn, call_timeout)
        self._folder, self._timeout = folder, timeout
        self._token = uuid4().hex[:16]
        self._exchange = Exchange(self._wire, self._token)
        self._lock = Lock()
        self._left: set[str] = set()  # objects that may be in S3
        self._closed = False

    def ask(self, prepared: Sequence[bytes]) -> Sequence[object]:
        """The model's answer for one tile; nothing of it stays in S3.

        Raises:
            EndpointError: As `tasks.inference.sagemaker.failures` tells; PermanentError for a
                tile that is too large; EndpointTimeoutError where there was no answer in time.
            AnswerError: The answer is too long, or says that it is no JSON.
        """
        (body,) = prepared
        ASYNCHRONOUS.check(len(body))
        deadline = time.monotonic() + self._timeout
        name = self._token + uuid4().hex[:16]  # SageMaker takes 32 characters
        tile = join(self._folder, name)
        self._keep(tile)
        places: list[str] = []
        try:
            self._exchange.put(tile, body)
            places = self._invoke(tile, name)
            found, told = self._await(tile, places, deadline)
        except TransientError:
            raise  # S3 may be out of reach, or an answer still come: `close` removes them
        except BaseException:
            self._remove([tile, *places])
            raise
        self._remove([tile, *places])
        if found != places[0]:
            raise _told(self._where, told["Body"])
        return [json_of(self._where, told)]

    def close(self) -> None:
        """End all waiting, close the connections, and remove what is left in S3."""
        with self._lock:
            self._closed, left = True, sorted(self._left)
        self._exchange.close()
        self._wire.close()
        if left:
            wire = Wire(self._role, _LAST_WORDS)
            Exchange(wire, self._token).remove(left)
            wire.close()

    def _invoke(self, tile: str, name: str) -> list[str]:
        """Hand a tile in; the places where its answer, or its failure, will be."""
        told = self._wire.call(
            "sagemaker-runtime",
            "invoke_endpoint_async",
            self._where,
            **self._arguments,
            InputLocation=tile,
            Filename=name,
        )
        if not told.get("OutputLocation"):
            raise TransientError(f"{self._where}: InvokeEndpointAsync named no OutputLocation")
        places = [told["OutputLocation"], *filter(None, [told.get("FailureLocation")])]
        self._keep(*places)
        return places

    def _await(
        self, tile: str, places: Sequence[str], deadline: float
    ) -> tuple[str, dict[str, Any]]:
        try:
            return self._exchange.first(places, deadline)
        except EndpointTimeoutError as error:
            self._remove([tile])  # nobody needs to work on it any more
            raise EndpointTimeoutError(
                f"{self._where}: {error} ({self._timeout:g} s, SWATH_ASYNC_TIMEOUT)"
            ) from error

    def _keep(self, *uris: str) -> None:
        with self._lock:
            self._left.update(uris)

    def _remove(self, uris: Sequence[str]) -> None:
        """Remove objects, unless `close` does."""
        with self._lock:
            if self._closed:
                return
            self._left.difference_update(uris)
        self._exchange.remove(uris)


def _told(where: str, body: bytes) -> EndpointError:
    """What an object at the failure location says: "Received server error (500) from primary…"."""
    said = body[:_SHOWN].decode(errors="replace").strip()
    status = re.search(r"(?:client|server) error \((\d{3})\)", said)
    message = f"{where}: the model failed: {said}"
    return status_error(message, int(status[1])) if status else TransientError(message)


def _within(seconds: float, least: int, most: int) -> int:
    return int(min(max(seconds, least), most))
