"""The file or object behind an image: its version, its size, its first bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from tasks import aws
from tasks.errors import ImageError
from tasks.imagery.safety import bucket_and_key

_HEAD = 64  # bytes: more than any format's signature

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


def _file(url: str, path: str) -> Stored:
    try:
        state = Path(path).stat()
        with Path(path).open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise ImageError(f"{url} cannot be read: {error.strerror}.") from error
    return Stored(f"{state.st_size}-{state.st_mtime_ns}", state.st_size, head)


def _object(url: str, bucket: str, key: str, read_role: str | None) -> Stored:
    try:
        # One request tells version, size and format, and needs no right beyond reading.
        answer = aws.client("s3", read_role).get_object(
            Bucket=bucket, Key=key, Range=f"bytes=0-{_HEAD - 1}"
        )
        head = answer["Body"].read()
    except ClientError as error:
        raise ImageError(f"{url}: {_reason(error, read_role)}.") from error
    except BotoCoreError as error:
        raise ImageError(f"{url}: S3 cannot be reached as configured: {error}") from error
    total = re.search(r"/(\d+)$", answer.get("ContentRange", ""))
    size = int(total[1]) if total else int(answer["ContentLength"])
    return Stored(str(answer["ETag"]).strip('"'), size, head)


def _reason(error: ClientError, read_role: str | None) -> str:
    """What S3 or STS refused, and what to do."""
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    if error.operation_name == "AssumeRole":
        return f"imageReadRole {read_role} cannot be assumed ({code}): check its trust policy"
    return _REMEDIES.get(code, f"S3 refused to read it ({code})")
