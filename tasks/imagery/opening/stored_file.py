"""The file or S3 object that holds an image: its version, its size, its bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Event
from typing import Any

from botocore.exceptions import IncompleteReadError

from tasks.aws import clients
from tasks.errors import ImageError, ImageUnreachableError
from tasks.imagery.opening.allowed_inputs import bucket_and_key
from tasks.imagery.opening.s3_retry import empty_file, until_answered

ReadBytes = Callable[[int, int], bytes]
"""Reads bytes of a file, by offset and count; returns fewer at the end of the file."""

_HEAD = 64  # bytes: longer than the signature of any format
_CHUNK = 64 << 10  # bytes of one request
_CHUNKS = 64  # number of chunks kept in memory
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)$")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One version of the file or S3 object that holds an image.

    Attributes:
        etag: S3's ETag; of a local file its size and modification time. Changes with the content.
        size: Size in bytes.
        head: The first bytes.
    """

    etag: str
    size: int
    head: bytes


def find_stored_file(
    url: str, path: str, read_role: str | None, stop: Event | None = None
) -> StoredFile:
    """Look up the version, size and first bytes of an image's file.

    Args:
        url: URL of the image, from the request.
        path: Path of the file, if it is not in S3.
        read_role: IAM role to read S3 with, or None for the process's own identity.
        stop: Ends the repetitions of a request that S3 does not answer.

    Raises:
        ImageUnreachableError: The file does not exist, access is denied, or S3 does not answer.
        ImageError: The file is empty.
    """
    in_s3 = bucket_and_key(url) is not None
    found = _s3_object(url, read_role, stop) if in_s3 else _local_file(url, path)
    if not found.size:
        raise ImageError(empty_file(url))
    return found


class RangeReader:
    """Reads byte ranges of an image's file, through a cache of chunks.

    Made for headers: their fields lie close together and are read several times.
    """

    def __init__(
        self, url: str, path: str, read_role: str | None, size: int, stop: Event | None = None
    ) -> None:
        """Read nothing yet.

        Args:
            url: URL of the image, from the request.
            path: Path of the file, if it is not in S3.
            read_role: IAM role to read S3 with, or None for the process's own identity.
            size: Size of the file in bytes.
            stop: Ends the repetitions of a request that S3 does not answer.
        """
        self._url = url
        self._path = path
        self._read_role = read_role
        self._size = size
        self._stop = stop
        self._chunk = lru_cache(_CHUNKS)(self._fetch)

    def __call__(self, start: int, count: int) -> bytes:
        """Read `count` bytes from offset `start`; fewer at the end of the file.

        Raises:
            ImageUnreachableError: The file no longer exists, access is denied, or S3 does not
                answer.
        """
        stop = min(start + count, self._size)
        if start >= stop:
            return b""
        first, last = start // _CHUNK, -(-stop // _CHUNK)
        if last - first > _CHUNKS:
            return self._fetch(start, stop)
        body = b"".join(
            self._chunk(chunk * _CHUNK, min((chunk + 1) * _CHUNK, self._size))
            for chunk in range(first, last)
        )
        return body[start - first * _CHUNK : stop - first * _CHUNK]

    def _fetch(self, start: int, stop: int) -> bytes:
        if bucket_and_key(self._url):
            byte_range = f"bytes={start}-{stop - 1}"
            answer = _get(self._url, self._read_role, byte_range, self._stop)
            return bytes(answer["Body"])
        return _read_local(self._url, self._path, start, stop - start)


def _local_file(url: str, path: str) -> StoredFile:
    try:
        state = Path(path).stat()
    except OSError as error:
        raise ImageUnreachableError(f"{url} cannot be read: {error.strerror}.") from error
    head = _read_local(url, path, 0, _HEAD)
    return StoredFile(f"{state.st_size}-{state.st_mtime_ns}", state.st_size, head)


def _read_local(url: str, path: str, start: int, count: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            file.seek(start)
            return file.read(count)
    except OSError as error:
        raise ImageUnreachableError(f"{url} cannot be read: {error.strerror}.") from error


def _get(url: str, read_role: str | None, byte_range: str, stop: Event | None) -> dict[str, Any]:
    """S3's answer to GetObject for a byte range, with the body read."""
    address = bucket_and_key(url)
    assert address
    bucket, key = address

    def request() -> dict[str, Any]:
        s3 = clients.client("s3", read_role, attempts=1)  # `until_answered` repeats the request
        answer = s3.get_object(Bucket=bucket, Key=key, Range=byte_range)
        body = answer["Body"].read()
        if match := _CONTENT_RANGE.match(answer.get("ContentRange", "")):
            expected = int(match[2]) - int(match[1]) + 1
            if len(body) != expected:
                raise IncompleteReadError(actual_bytes=len(body), expected_bytes=expected)
        return {**answer, "Body": body}

    return until_answered(request, url, read_role, stop)


def _s3_object(url: str, read_role: str | None, stop: Event | None) -> StoredFile:
    # one request gives version, size and format, and needs only the permission s3:GetObject
    answer = _get(url, read_role, f"bytes=0-{_HEAD - 1}", stop)
    total = _CONTENT_RANGE.match(answer.get("ContentRange", ""))
    size = int(total[3]) if total else int(answer["ContentLength"])
    return StoredFile(str(answer["ETag"]).strip('"'), size, answer["Body"])
