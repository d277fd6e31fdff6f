"""Reading, writing and removing objects at `s3://bucket/key` or at a local path.

Writes are atomic: a reader finds the whole object, or none. What may succeed later, after a refusal
for lack of permission too, is tried again for `SWATH_STORAGE_PATIENCE`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from tasks.aws.clients import client
from tasks.errors import PublishError
from tasks.storage.parts import part_file, write_synchronised
from tasks.storage.patience import patiently

_SCHEME = "s3://"


def join(uri: str, *parts: str) -> str:
    """Join a URI and relative parts with single slashes; empty parts are left out."""
    inner = [part.strip("/") for part in parts]
    return "/".join([uri.rstrip("/"), *(part for part in inner if part)])


def put(uri: str, body: bytes | Path, role_arn: str | None = None) -> None:
    """Store an object, or replace it; a reader sees the old or the new one, never a part.

    Locally a temporary file in the same folder is written, synchronised and renamed (POSIX `rename`
    is atomic). In S3 an object appears when its upload completes; a failed multipart upload is
    aborted.

    Args:
        uri: `s3://bucket/key` or a local path; missing local folders are created.
        body: The bytes, or the path of a file with them.
        role_arn: IAM role to assume for S3; None for this process's own credentials.

    Raises:
        PublishError: The object could not be stored; a previous one is unchanged.
    """
    with storage_errors("write", uri):
        patiently(_put, uri, body, role_arn)


def get(uri: str, role_arn: str | None = None) -> bytes:
    """The bytes of an object.

    Raises:
        PublishError: The object does not exist, or cannot be read.
    """
    with storage_errors("read", uri):
        return patiently(_get, uri, role_arn)


def get_range(uri: str, start: int, length: int, role_arn: str | None = None) -> bytes:
    """Some bytes of an object.

    Args:
        uri: `s3://bucket/key` or a local path.
        start: The first byte, from 0.
        length: Number of bytes, at least 1.
        role_arn: IAM role to assume for S3; None for this process's own credentials.

    Raises:
        PublishError: The object does not exist or has fewer bytes, or it cannot be read.
    """
    with storage_errors("read", uri):
        found = patiently(_get_range, uri, start, length, role_arn)
    if len(found) != length:
        raise PublishError(f"{uri} has fewer than {start + length} bytes: it is not whole.")
    return found


def list_names(uri: str, role_arn: str | None = None) -> list[str]:
    """The names of the objects directly in a folder or under a prefix, sorted; it need not exist.

    Raises:
        PublishError: They cannot be listed.
    """
    with storage_errors("list", uri):
        return sorted(patiently(_list_names, uri, role_arn))


def list_tree(uri: str) -> list[str]:
    """The objects in a folder and its folders, or under a prefix, as sorted relative paths.

    Local files and folders whose name begins with a dot are left out.

    Raises:
        PublishError: They cannot be listed.
    """
    with storage_errors("list", uri):
        return sorted(patiently(_list_tree, uri))


def exists(uri: str, role_arn: str | None = None) -> bool:
    """Whether an object exists.

    Raises:
        PublishError: It could not be determined: no permission, or no connection.
    """
    with storage_errors("check", uri):
        if not is_s3(uri):
            return Path(uri).is_file()
        bucket, key = split_s3(uri)
        try:
            client("s3", role_arn).head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in {"404", "NoSuchKey"}:
                return False
            raise
        return True


def list_folders(uri: str, role_arn: str | None = None) -> list[str]:
    """The names of the folders directly in a folder or under a prefix, sorted; it need not exist.

    Raises:
        PublishError: They cannot be listed.
    """
    with storage_errors("list", uri):
        return sorted(patiently(_list_folders, uri, role_arn))


def remove(uri: str, role_arn: str | None = None) -> None:
    """Remove every object under a folder or prefix; it need not exist.

    Raises:
        PublishError: An object could not be removed.
    """
    with storage_errors("remove", uri):
        if not is_s3(uri):
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


def remove_object(uri: str, role_arn: str | None = None) -> None:
    """Remove one object; it need not exist.

    A listing shows first whether it exists, so that s3:DeleteObject is needed only then.

    Raises:
        PublishError: The object could not be removed.
    """
    with storage_errors("remove", uri):
        if not is_s3(uri):
            Path(uri).unlink(missing_ok=True)
            return
        bucket, key = split_s3(uri)
        s3 = client("s3", role_arn)
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
        if any(
            found["Key"] == key for found in listed
        ):  # the shortest key with a prefix is listed first
            s3.delete_object(Bucket=bucket, Key=key)


def split_s3(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`.

    Raises:
        PublishError: The bucket or the key is empty.
    """
    bucket, _, key = uri.removeprefix(_SCHEME).partition("/")
    if not bucket or not key:
        raise PublishError(f"{uri} is not s3://bucket/key: give a bucket and a key.")
    return bucket, key


def is_s3(uri: str) -> bool:
    """Whether a URI is one of S3, not a local path."""
    return uri.startswith(_SCHEME)


def _put(uri: str, body: bytes | Path, role_arn: str | None) -> None:
    if not is_s3(uri):
        with part_file(Path(uri).parent) as (part, sink):
            write_synchronised(sink, body)
            part.replace(uri)
        return
    bucket, key = split_s3(uri)
    s3 = client("s3", role_arn)
    if isinstance(body, Path):
        s3.upload_file(str(body), bucket, key)
    else:
        s3.upload_fileobj(BytesIO(body), bucket, key)


def _get(uri: str, role_arn: str | None) -> bytes:
    if not is_s3(uri):
        return Path(uri).read_bytes()
    bucket, key = split_s3(uri)
    with client("s3", role_arn).get_object(Bucket=bucket, Key=key)["Body"] as stream:
        return bytes(stream.read())


def _get_range(uri: str, start: int, length: int, role_arn: str | None) -> bytes:
    if not is_s3(uri):
        with Path(uri).open("rb") as source:
            source.seek(start)
            return source.read(length)
    bucket, key = split_s3(uri)
    wanted = f"bytes={start}-{start + length - 1}"
    try:
        found = client("s3", role_arn).get_object(Bucket=bucket, Key=key, Range=wanted)
    except ClientError as error:
        if error.response["Error"]["Code"] == "InvalidRange":  # it ends before the first byte
            return b""
        raise
    with found["Body"] as stream:
        return bytes(stream.read())


def _list_names(uri: str, role_arn: str | None) -> list[str]:
    if not is_s3(uri):
        inside = Path(uri).iterdir() if Path(uri).is_dir() else []
        return [path.name for path in inside if path.is_file() and not path.name.startswith(".")]
    pages = _pages(uri, role_arn)
    return [found["Key"].rpartition("/")[2] for page in pages for found in page.get("Contents", [])]


def _list_tree(uri: str) -> list[str]:
    if is_s3(uri):
        bucket, _, prefix = uri.removeprefix(_SCHEME).rstrip("/").partition("/")
        prefix += "/" * bool(prefix)
        pages = client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = (found["Key"] for page in pages for found in page.get("Contents", []))
        return [key.removeprefix(prefix) for key in keys]
    paths = (path.relative_to(uri) for path in Path(uri).rglob("*") if path.is_file())
    return [str(path) for path in paths if not any(part.startswith(".") for part in path.parts)]


def _list_folders(uri: str, role_arn: str | None) -> list[str]:
    if not is_s3(uri):
        inside = Path(uri).iterdir() if Path(uri).is_dir() else []
        return [path.name for path in inside if path.is_dir()]
    pages = _pages(uri, role_arn)
    found = [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", [])]
    return [prefix.rstrip("/").rpartition("/")[2] for prefix in found]


def _pages(uri: str, role_arn: str | None) -> Iterable[dict[str, Any]]:
    bucket, prefix = split_s3(uri)
    pages: Iterable[dict[str, Any]] = (
        client("s3", role_arn)
        .get_paginator("list_objects_v2")
        .paginate(Bucket=bucket, Prefix=prefix.rstrip("/") + "/", Delimiter="/")
    )
    return pages


@contextmanager
def storage_errors(action: str, uri: str) -> Iterator[None]:
    """Raise errors of S3 and the file system as PublishError with the object and a remedy."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        remedy = _REMEDIES.get(code, "Try again; if it persists, check the bucket's policy.")
        raise PublishError(f"Cannot {action} {uri} ({code}). {remedy}") from error
    except (BotoCoreError, Boto3Error) as error:
        remedy = "Check the bucket's name, the permissions and the connection to S3."
        raise PublishError(f"Cannot {action} {uri}: {error}. {remedy}") from error
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "Check the path, its permissions and the free space."
        raise PublishError(f"Cannot {action} {uri}: {reason}. {remedy}") from error


_FORBIDDEN = (
    "Grant this process s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket on it."
)
_MISSING = "There is no such object; check the bucket and the key."
_REMEDIES = {
    "403": _FORBIDDEN,
    "AccessDenied": _FORBIDDEN,
    "404": _MISSING,
    "NoSuchKey": _MISSING,
    "NoSuchBucket": "Create the bucket, or correct its name.",
    "NotImplemented": "Use a store with conditional writes (If-Match, If-None-Match), as S3 has.",
}
