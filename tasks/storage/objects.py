"""Objects that are whole or absent, at `s3://bucket/key` or in a local folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from uuid import uuid4

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from tasks.aws.clients import client
from tasks.errors import PublishError

_SCHEME = "s3://"


def join(uri: str, *parts: str) -> str:
    """The URI of what lies under another; empty parts and doubled slashes at the joints vanish."""
    inner = [part.strip("/") for part in parts]
    return "/".join([uri.rstrip("/"), *(part for part in inner if part)])


def put(uri: str, body: bytes | Path, role_arn: str | None = None) -> None:
    """Store an object, replacing what was there; a reader sees the old or the new, never a part.

    Locally a file in the same folder is written, synchronised and renamed (POSIX `rename` is
    atomic). In S3 an object appears when its last part is in; a failed multipart upload is aborted.

    Args:
        uri: `s3://bucket/key` or a local path; missing local folders are made.
        body: The bytes, or a file that holds them.
        role_arn: IAM role to assume for S3, or None for the process's own identity.

    Raises:
        PublishError: The object could not be stored; what was there still is.
    """
    with _reported("write", uri):
        if not uri.startswith(_SCHEME):
            _put_local(Path(uri), body)
            return
        bucket, key = split_s3(uri)
        s3 = client("s3", role_arn)
        if isinstance(body, Path):
            s3.upload_file(str(body), bucket, key)
        else:
            s3.upload_fileobj(BytesIO(body), bucket, key)


def get(uri: str, role_arn: str | None = None) -> bytes:
    """The bytes of an object.

    Raises:
        PublishError: The object is not there, or may not be read.
    """
    with _reported("read", uri):
        if not uri.startswith(_SCHEME):
            return Path(uri).read_bytes()
        bucket, key = split_s3(uri)
        with client("s3", role_arn).get_object(Bucket=bucket, Key=key)["Body"] as stream:
            return bytes(stream.read())


def exists(uri: str, role_arn: str | None = None) -> bool:
    """Whether an object is there, whole.

    Raises:
        PublishError: It could not be found out, for want of permission or of a connection.
    """
    with _reported("look for", uri):
        if not uri.startswith(_SCHEME):
            return Path(uri).is_file()
        bucket, key = split_s3(uri)
        try:
            client("s3", role_arn).head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in {"404", "NoSuchKey"}:
                return False
            raise
        return True


def remove(uri: str, role_arn: str | None = None) -> None:
    """Remove every object under a folder or prefix; nothing there is no error.

    Raises:
        PublishError: Something could not be removed.
    """
    with _reported("remove", uri):
        if not uri.startswith(_SCHEME):
            if Path(uri).exists():
                shutil.rmtree(uri)
            return
        bucket, prefix = split_s3(uri)
        s3 = client("s3", role_arn)
        pages = s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix.rstrip("/") + "/"
        )
        for page in pages:
            for found in page.get("Contents", []):
                s3.delete_object(Bucket=bucket, Key=found["Key"])


def split_s3(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`.

    Raises:
        PublishError: One of them is empty.
    """
    bucket, _, key = uri.removeprefix(_SCHEME).partition("/")
    if not bucket or not key:
        raise PublishError(f"{uri} is not s3://bucket/key: name a bucket and a key.")
    return bucket, key


def _put_local(path: Path, body: bytes | Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f".{uuid4().hex}.part"
    try:
        # A plain open, unlike tempfile's, leaves the published file readable as the umask says.
        with part.open("xb") as sink:
            if isinstance(body, Path):
                with body.open("rb") as source:
                    shutil.copyfileobj(source, sink, 1 << 20)
            else:
                sink.write(body)
            sink.flush()
            os.fsync(sink.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _reported(what: str, uri: str) -> Iterator[None]:
    """Turn what the file system and S3 raise into one error that names the object."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        remedy = _REMEDIES.get(code, "Try again; if it persists, look at the bucket's policy.")
        raise PublishError(f"Cannot {what} {uri} ({code}). {remedy}") from error
    except (BotoCoreError, Boto3Error) as error:
        remedy = "Check the bucket's name, the permissions and the connection to S3."
        raise PublishError(f"Cannot {what} {uri}: {error}. {remedy}") from error
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "Check the path, its permissions and the space left."
        raise PublishError(f"Cannot {what} {uri}: {reason}. {remedy}") from error


_FORBIDDEN = (
    "Grant this process s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket there."
)
_MISSING = "Nothing was stored under that key."
_REMEDIES = {
    "403": _FORBIDDEN,
    "AccessDenied": _FORBIDDEN,
    "404": _MISSING,
    "NoSuchKey": _MISSING,
    "NoSuchBucket": "Create the bucket, or correct its name.",
}
