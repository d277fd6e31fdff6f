"""The objects in S3 through which an asynchronous endpoint takes tiles and gives answers."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from threading import Event, Lock
from typing import Any

from tasks.errors import (
    AnswerError,
    EndpointError,
    EndpointTimeoutError,
    PermanentError,
    PublishError,
    TransientError,
)
from tasks.inference.sagemaker.wire import Wire
from tasks.storage.objects import split_s3

logger = logging.getLogger(__name__)

_FIRST_PAUSE = 0.2  # seconds
_LONGEST_PAUSE = 10.0
_GROWTH = 1.25  # so that an answer is noticed late by a fifth of the time it took, at most
_FRESH = 0.5  # of its pause: another's look at the same folder that is no older will do
_MOST_KEYS = 1000  # in one call of DeleteObjects


@dataclass(frozen=True, slots=True)
class _Look:
    """What a folder held at a time."""

    began: float
    keys: frozenset[str]


class Exchange:
    """Puts, awaits and removes objects, for several threads at once.

    S3 is asked, as nobody tells: one listing serves all who wait, since the names of all that they
    wait for begin alike, and the pauses between two grow with the wait.
    """

    def __init__(self, wire: Wire, token: str) -> None:
        """Ask for nothing yet.

        Args:
            wire: Calls S3.
            token: What the names of all objects begin with, after the folder.
        """
        self._wire, self._token = wire, token
        self._closed = Event()
        self._listing = Lock()
        self._looks: dict[str, _Look] = {}
        self._complained = False

    def put(self, uri: str, body: bytes) -> None:
        """Store an object.

        Raises:
            EndpointError: As `Wire.call`.
        """
        self._s3("put_object", uri, Body=body)

    def first(self, uris: Sequence[str], deadline: float) -> tuple[str, dict[str, Any]]:
        """The first of a few objects that is there: its URI, and it: `Body` and `ContentType`.

        Args:
            uris: `s3://bucket/key` each.
            deadline: Until when, by `time.monotonic`.

        Raises:
            EndpointTimeoutError: None was there in time.
            TransientError: `close` was called.
            PermanentError: S3 may not be asked.
            AnswerError: The object is too long.
        """
        pause, last = _FIRST_PAUSE, ""
        while (left := deadline - time.monotonic()) > 0:
            if self._closed.wait(min(pause, left)):
                raise TransientError(f"{uris[0]}: no longer waited for: the endpoint was closed")
            try:
                if found := next((uri for uri in uris if self._there(uri, pause * _FRESH)), None):
                    return found, self._s3("get_object", found)
            except PermanentError:
                raise
            except EndpointError as error:  # the answer may be there the next time
                last = f"; at last: {error}"
            pause = min(_LONGEST_PAUSE, pause * _GROWTH)
        raise EndpointTimeoutError(f"no answer at {' or '.join(uris)} in time{last}")

    def remove(self, uris: Iterable[str]) -> None:
        """Remove objects, those that are not there too; what cannot be is told in the log once."""
        buckets = defaultdict(list)
        for uri in uris:
            bucket, key = _split(uri)
            buckets[bucket].append({"Key": key})
        for bucket, keys in buckets.items():
            for start in range(0, len(keys), _MOST_KEYS):
                self._remove(bucket, keys[start : start + _MOST_KEYS])

    def close(self) -> None:
        """End all waiting at once."""
        self._closed.set()

    def _remove(self, bucket: str, keys: list[dict[str, str]]) -> None:
        where, delete = f"s3://{bucket}/{keys[0]['Key']}", {"Objects": keys, "Quiet": True}
        try:
            told = self._wire.call("s3", "delete_objects", where, Bucket=bucket, Delete=delete)
            errors = told.get("Errors", [])
        except (EndpointError, AnswerError) as error:
            errors = [str(error)]
        if errors and not self._complained:
            self._complained = True
            logger.warning(
                "Objects of an asynchronous endpoint stay in s3://%s (%s): grant s3:DeleteObject "
                "there, and give the folder a lifecycle rule.",
                bucket,
                errors[0],
            )

    def _there(self, uri: str, age: float) -> bool:
        """Whether an object is there, by a look that is no older than some seconds."""
        bucket, key = _split(uri)
        folder, slash, name = key.rpartition("/")
        shared = name.startswith(self._token)
        prefix = f"{folder}{slash}{self._token}" if shared else key
        oldest = time.monotonic() - age
        with self._listing:  # those who wait for it find what the first one found
            look = self._looks.get(f"{bucket}/{prefix}")
            if look is None or look.began < oldest:
                look = _Look(time.monotonic(), frozenset(self._keys(bucket, prefix)))
                if shared:
                    self._looks[f"{bucket}/{prefix}"] = look
        return key in look.keys

    def _keys(self, bucket: str, prefix: str) -> Iterable[str]:
        """The keys that begin so."""
        more: dict[str, str] = {}
        while True:
            where = f"s3://{bucket}/{prefix}"
            told = self._wire.call(
                "s3", "list_objects_v2", where, Bucket=bucket, Prefix=prefix, **more
            )
            yield from (each["Key"] for each in told.get("Contents", []))
            if not told.get("IsTruncated"):
                return
            more = {"ContinuationToken": told["NextContinuationToken"]}

    def _s3(self, operation: str, uri: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        bucket, key = _split(uri)
        return self._wire.call("s3", operation, uri, Bucket=bucket, Key=key, **arguments)


def _split(uri: str) -> tuple[str, str]:
    try:
        return split_s3(uri)
    except PublishError as error:
        raise PermanentError(str(error)) from error
