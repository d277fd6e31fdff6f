"""The objects in S3 through which an asynchronous endpoint gets tiles and returns answers."""

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
from tasks.inference.sagemaker.aws_client import AwsClient
from tasks.storage.objects import split_s3

logger = logging.getLogger(__name__)

_FIRST_DELAY = 0.2  # seconds
_LONGEST_DELAY = 10.0
_GROWTH = 1.25  # an answer is noticed late by at most a fifth of the time since its call
_MAX_AGE = 0.5  # of a caller's delay: up to this age, it uses another caller's listing
_MOST_KEYS = 1000  # in one call of DeleteObjects


@dataclass(frozen=True, slots=True)
class _Listing:
    """The keys under a prefix, and the time at which their listing began (monotonic seconds)."""

    began: float
    keys: frozenset[str]


class S3Exchange:
    """Stores objects, waits for objects and removes them, for several threads at once.

    It waits for objects by listing them. All their names start with one token, so that one listing
    serves all waiting threads; the delays between listings grow with the time waited.
    """

    def __init__(self, aws: AwsClient, token: str) -> None:
        """Start without a call.

        Args:
            aws: Calls S3.
            token: The start of all objects' names, after the folder.
        """
        self._aws, self._token = aws, token
        self._closed = Event()
        self._lock = Lock()
        self._listings: dict[str, _Listing] = {}
        self._warned = False

    def put(self, uri: str, body: bytes) -> None:
        """Store an object.

        Raises:
            EndpointError: See `AwsClient.call`.
        """
        self._s3("put_object", uri, Body=body)

    def first_object(self, uris: Sequence[str], deadline: float) -> tuple[str, dict[str, Any]]:
        """Wait for the first of a few objects: its URI, and the object's `Body` and `ContentType`.

        Args:
            uris: URIs of the form `s3://bucket/key`.
            deadline: Time of the monotonic clock at which the wait ends.

        Raises:
            EndpointTimeoutError: No object was written in time.
            TransientError: `close` was called.
            PermanentError: S3 may not be listed or read.
            AnswerError: The object is too long.
        """
        delay, last_error = _FIRST_DELAY, ""
        while (left := deadline - time.monotonic()) > 0:
            if self._closed.wait(min(delay, left)):
                raise TransientError(
                    f"{uris[0]}: the endpoint was closed during the wait for its answer"
                )
            try:
                if found := next(
                    (uri for uri in uris if self._exists(uri, delay * _MAX_AGE)), None
                ):
                    return found, self._s3("get_object", found)
            except PermanentError:
                raise
            except EndpointError as error:  # the next listing may succeed
                last_error = f"; the last error: {error}"
            delay = min(_LONGEST_DELAY, delay * _GROWTH)
        raise EndpointTimeoutError(f"no answer at {' or '.join(uris)} in time{last_error}")

    def remove(self, uris: Iterable[str]) -> None:
        """Remove objects, if they exist; the first failure is logged as a warning."""
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
            result = self._aws.call("s3", "delete_objects", where, Bucket=bucket, Delete=delete)
            errors = result.get("Errors", [])
        except (EndpointError, AnswerError) as error:
            errors = [str(error)]
        if errors and not self._warned:
            self._warned = True
            logger.warning(
                "Objects of an asynchronous endpoint could not be deleted from s3://%s (%s): grant "
                "s3:DeleteObject there, and give the folder a lifecycle rule.",
                bucket,
                errors[0],
            )

    def _exists(self, uri: str, age: float) -> bool:
        """Whether an object exists, by a listing that is at most `age` seconds old."""
        bucket, key = _split(uri)
        folder, slash, name = key.rpartition("/")
        shared = name.startswith(self._token)
        prefix = f"{folder}{slash}{self._token}" if shared else key
        oldest = time.monotonic() - age
        with self._lock:  # threads that wait here use the listing of the first one
            listing = self._listings.get(f"{bucket}/{prefix}")
            if listing is None or listing.began < oldest:
                listing = _Listing(time.monotonic(), frozenset(self._keys(bucket, prefix)))
                if shared:
                    self._listings[f"{bucket}/{prefix}"] = listing
        return key in listing.keys

    def _keys(self, bucket: str, prefix: str) -> Iterable[str]:
        """The keys that start with a prefix."""
        more: dict[str, str] = {}
        while True:
            where = f"s3://{bucket}/{prefix}"
            page = self._aws.call(
                "s3", "list_objects_v2", where, Bucket=bucket, Prefix=prefix, **more
            )
            yield from (each["Key"] for each in page.get("Contents", []))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _s3(self, operation: str, uri: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        bucket, key = _split(uri)
        return self._aws.call("s3", operation, uri, Bucket=bucket, Key=key, **arguments)


def _split(uri: str) -> tuple[str, str]:
    try:
        return split_s3(uri)
    except PublishError as error:
        raise PermanentError(str(error)) from error
