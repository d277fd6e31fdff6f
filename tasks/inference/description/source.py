"""A model's files, where they lie: in S3, or in a folder that the operator allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from tasks.aws.clients import client
from tasks.errors import RequestError
from tasks.request.locations import s3_object
from tasks.storage.objects import split_s3
from tasks.storage.roots import within

_ABSENT = {"404", "NoSuchKey", "NoSuchBucket"}


@dataclass(frozen=True)
class Source:
    """One version of a file.

    Attributes:
        uri: `s3://bucket/key`, or its path with links resolved.
        role: IAM role to assume for S3; None for the process's own identity.
        version: Tells it from others under the same URI: ETag, or time of change and size.
        size: Bytes.
    """

    uri: str
    role: str | None
    version: str
    size: int

    def read(self) -> bytes:
        """All of it.

        Raises:
            RequestError: It is not to be had, or is another version.
        """
        try:
            if not self.uri.startswith("s3://"):
                return Path(self.uri).read_bytes()
            bucket, key = split_s3(self.uri)
            answer = client("s3", self.role).get_object(
                Bucket=bucket, Key=key, IfMatch=self.version
            )
            with answer["Body"] as stream:
                return bytes(stream.read())
        except (OSError, ClientError, BotoCoreError) as error:
            raise _refusal(self.uri, error) from error


def find(
    uri: str, roots: Sequence[Path], role: str | None, *, largest: int, absent: str = ""
) -> Source:
    """A file as it stands.

    Args:
        uri: `s3://bucket/key`, or a path below one of `roots`.
        roots: Folders that the operator allowed; links are resolved before they are compared.
        role: IAM role to assume for S3.
        largest: Bytes that it may have.
        absent: What to do where there is none.

    Raises:
        RequestError: It is elsewhere, absent, too large, or may not be read.
    """
    try:
        source = _in_s3(uri, role) if uri.startswith("s3://") else _local(uri, roots)
    except FileNotFoundError:
        remedy = absent or "check the name"
        raise RequestError(f"{uri}: there is no such file; {remedy}.") from None
    except ClientError as error:
        if error.response["Error"]["Code"] in _ABSENT:
            raise RequestError(f"{uri}: there is none; {absent or 'check the name'}.") from error
        raise _refusal(uri, error) from error
    except (OSError, RuntimeError, BotoCoreError) as error:
        raise _refusal(uri, error) from error
    except ValueError as error:
        raise RequestError(f"{uri!r} {error}.") from None
    if source.size > largest:
        raise RequestError(
            f"{uri}: has {source.size} bytes, more than the {largest} that fit; give a smaller one."
        )
    return source


def _in_s3(uri: str, role: str | None) -> Source:
    bucket, key = split_s3(s3_object(uri))
    head = client("s3", role).head_object(Bucket=bucket, Key=key)
    return Source(uri, role, head["ETag"], head["ContentLength"])


def _local(path: str, roots: Sequence[Path]) -> Source:
    file = within(path, roots)
    if "://" in path or file is None:
        allowed = ", ".join(map(str, roots)) or "there are none"
        raise ValueError(
            f"lies under none of the local roots ({allowed}): have SWATH_LOCAL_ROOTS list its "
            "folder, or give s3://bucket/key"
        )
    if file.exists() and not file.is_file():
        raise ValueError("is not a file: check the path")
    stat = file.stat()
    return Source(str(file), None, f"{stat.st_mtime_ns}-{stat.st_size}", stat.st_size)


def _refusal(uri: str, error: Exception) -> RequestError:
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    return RequestError(
        f"{uri}: cannot be read ({reason}): check its name and permissions (s3:GetObject and "
        "imageProcessor.assumedRole in S3)."
    )
