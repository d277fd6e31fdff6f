"""The file or S3 object that holds an image: its version, its size, its bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tasks.aws import clients
from tasks.errors import ImageError
from tasks.imagery.opening.allowed_inputs import bucket_and_key

ReadBytes = Callable[[int, int], bytes]
"""Reads bytes of a file, by offset and count; returns fewer at the end of the file."""

_HEAD = 64  # bytes: longer than the signature of any format
_CHUNK = 64 << 10  # bytes of one request
_CHUNKS = 64  # number of chunks kept in memory

_REMEDIES = {  # by S3 error code: the reason, and what the user can do
    "NoSuchBucket": "there is no such bucket: check the URL",
    "NoSuchKey": "there is no such object: check the URL",
    "AccessDenied": "access denied: grant s3:GetObject on it, or name a role in imageReadRole",
    "InvalidObjectState": "it is archived: restore it first",
    "ExpiredToken": "the credentials have expired: renew them",
    "InvalidRange": "it is empty: upload it again",
}


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


def find_stored_file(url: str, path: str, read_role: str | None) -> StoredFile:
    """Look up the version, size and first bytes of an image's file.

    Args:
        url: URL of the image, from the request.
        path: Path of the file, if it is not in S3.
        read_role: IAM role to read S3 with, or None for the process's own identity.

    Raises:
        ImageError: The file does not exist, is empty, or access is denied.
    """
    address = bucket_and_key(url)
    found = _s3_object(url, *address, read_role) if address else _local_file(url, path)
    if not found.size:
        raise ImageError(f"{url}: {_REMEDIES['InvalidRange']}.")
    return found


class RangeReader:
    """Reads byte ranges of an image's file, through a cache of chunks.

    Made for headers: their fields lie close together and are read several times.
    """

    def __init__(self, url: str, path: str, read_role: str | None, size: int) -> None:
        """Read nothing yet.

        Args:
            url: URL of the image, from the request.
            path: Path of the file, if it is not in S3.
            read_role: IAM role to read S3 with, or None for the process's own identity.
            size: Size of the file in bytes.
        """
        self._url = url
        self._path = path
        self._read_role = read_role
        self._size = size
        self._chunk = lru_cache(_CHUNKS)(self._fetch)

    def __call__(self, start: int, count: int) -> bytes:
        """Read `count` bytes from offset `start`; fewer at the end of the file.

        Raises:
            ImageError: The file no longer exists, or access is denied.
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
        address = bucket_and_key(self._url)
        if address:
            answer = _get(self._url, *address, self._read_role, f"bytes={start}-{stop - 1}")
            return bytes(answer["Body"])
        return _read_local(self._url, self._path, start, stop - start)


def _local_file(url: str, path: str) -> StoredFile:
    try:
        state = Path(path).stat()
    except OSError as error:
        raise ImageError(f"{url} cannot be read: {error.strerror}.") from error
    head = _read_local(url, path, 0, _HEAD)
    return StoredFile(f"{state.st_size}-{state.st_mtime_ns}", state.st_size, head)


def _read_local(url: str, path: str, start: int, count: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            file.seek(start)
            return file.read(count)
    except OSError as error:
        raise ImageError(f"{url} cannot be read: {error.strerror}.") from error


def _get(url: str, bucket: str, key: str, read_role: str | None, byte_range: str) -> dict[str, Any]:
    """S3's answer to GetObject for a byte range, with the body read."""
    try:
        answer = clients.client("s3", read_role).get_object(
            Bucket=bucket, Key=key, Range=byte_range
        )
        return {**answer, "Body": answer["Body"].read()}
    except ClientError as error:
        raise ImageError(f"{url}: {_reason(error, read_role)}.") from error
    except BotoCoreError as error:
        raise ImageError(f"{url}: S3 cannot be reached as configured: {error}") from error


def _s3_object(url: str, bucket: str, key: str, read_role: str | None) -> StoredFile:
    # one request gives version, size and format, and needs only the permission s3:GetObject
    answer = _get(url, bucket, key, read_role, f"bytes=0-{_HEAD - 1}")
    total = re.search(r"/(\d+)$", answer.get("ContentRange", ""))
    size = int(total[1]) if total else int(answer["ContentLength"])
    return StoredFile(str(answer["ETag"]).strip('"'), size, answer["Body"])


def _reason(error: ClientError, read_role: str | None) -> str:
    """Why S3 or STS refused, and the remedy."""
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    if error.operation_name == "AssumeRole":
        return f"imageReadRole {read_role} cannot be assumed ({code}): check its trust policy"
    return _REMEDIES.get(code, f"S3 refused to read it ({code})")
