"""The file or object behind an image: its version, its size, its bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tasks.aws import clients
from tasks.errors import ImageError
from tasks.imagery.opening.safety import bucket_and_key

_HEAD = 64  # bytes: more than any format's signature
_CHUNK = 64 << 10  # bytes that are fetched at once
_CHUNKS = 64  # that are kept

_REMEDIES = {  # S3's error codes, and what a user does about them
    "NoSuchBucket": "there is no such bucket: check the URL",
    "NoSuchKey": "there is no such object: check the URL",
    "AccessDenied": "access denied: grant s3:GetObject on it, or name a role in imageReadRole",
    "InvalidObjectState": "it is archived: restore it first",
    "ExpiredToken": "the credentials have expired: renew them",
    "InvalidRange": "it is empty: upload it again",
}


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of a stored image.

    Attributes:
        etag: S3's ETag, or size and time of change of a file: differs when the content does.
        size: Bytes.
        head: The first bytes.
    """

    etag: str
    size: int
    head: bytes


def stored(url: str, path: str, read_role: str | None) -> Stored:
    """Look an image up where it is stored.

    Args:
        url: As the request names it.
        path: Its file, where it is not in S3.
        read_role: IAM role to read S3 with, or None for the process's own identity.

    Raises:
        ImageError: It is absent, forbidden or empty.
    """
    address = bucket_and_key(url)
    found = _object(url, *address, read_role) if address else _file(url, path)
    if not found.size:
        raise ImageError(f"{url}: {_REMEDIES['InvalidRange']}.")
    return found


class Ranges:
    """The bytes of a stored image, fetched in chunks that are kept.

    For headers: what is read lies close together, and is read again.
    """

    def __init__(self, url: str, path: str, read_role: str | None, size: int) -> None:
        """Name the image as for `stored`, and the bytes it has."""
        self._url = url
        self._path = path
        self._read_role = read_role
        self._size = size
        self._chunk = lru_cache(_CHUNKS)(self._fetch)

    def __call__(self, start: int, count: int) -> bytes:
        """Bytes from an offset; fewer where the file ends.

        Raises:
            ImageError: It is absent or forbidden.
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
        return _read(self._url, self._path, start, stop - start)


def _file(url: str, path: str) -> Stored:
    try:
        state = Path(path).stat()
    except OSError as error:
        raise ImageError(f"{url} cannot be read: {error.strerror}.") from error
    head = _read(url, path, 0, _HEAD)
    return Stored(f"{state.st_size}-{state.st_mtime_ns}", state.st_size, head)


def _read(url: str, path: str, start: int, count: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            file.seek(start)
            return file.read(count)
    except OSError as error:
        raise ImageError(f"{url} cannot be read: {error.strerror}.") from error


def _get(url: str, bucket: str, key: str, read_role: str | None, byte_range: str) -> dict[str, Any]:
    """What S3 answers, its body read."""
    try:
        answer = clients.client("s3", read_role).get_object(
            Bucket=bucket, Key=key, Range=byte_range
        )
        return {**answer, "Body": answer["Body"].read()}
    except ClientError as error:
        raise ImageError(f"{url}: {_reason(error, read_role)}.") from error
    except BotoCoreError as error:
        raise ImageError(f"{url}: S3 cannot be reached as configured: {error}") from error


def _object(url: str, bucket: str, key: str, read_role: str | None) -> Stored:
    # One request tells version, size and format, and needs no right beyond reading.
    answer = _get(url, bucket, key, read_role, f"bytes=0-{_HEAD - 1}")
    total = re.search(r"/(\d+)$", answer.get("ContentRange", ""))
    size = int(total[1]) if total else int(answer["ContentLength"])
    return Stored(str(answer["ETag"]).strip('"'), size, answer["Body"])


def _reason(error: ClientError, read_role: str | None) -> str:
    """What S3 or STS refused, and what to do."""
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    if error.operation_name == "AssumeRole":
        return f"imageReadRole {read_role} cannot be assumed ({code}): check its trust policy"
    return _REMEDIES.get(code, f"S3 refused to read it ({code})")
