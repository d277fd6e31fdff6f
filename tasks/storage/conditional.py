"""Objects that are written or removed only if nobody has changed them meanwhile.

In S3 the server compares ETags (`If-Match`, `If-None-Match`). Locally a lock on the folder keeps
apart the processes that use this module. What may succeed later is tried again, as by `objects`.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError

from tasks.aws.clients import client
from tasks.storage.objects import is_s3, split_s3, storage_errors
from tasks.storage.parts import linked_part, part_file, write_synchronised
from tasks.storage.patience import patiently

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

_T = TypeVar("_T")

Pieces = Callable[[], Iterator[bytes]]
"""Gives the bytes of an object piece by piece."""

_PART_BYTES = 16 << 20  # of a multipart upload's first parts
_GROWTH = 1000  # parts after which they grow by as much: S3 takes 10,000, which hold 880 GB
_UPLOADS = 4  # parts that are in memory at the same time
_ABSENT = {"404", "NoSuchKey"}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}  # of a file system without hard links
_CHANGED = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict", *_ABSENT}


@dataclass(frozen=True)
class Version:
    """A version of an object.

    Attributes:
        tag: Differs from that of any other version: S3's ETag; of a local file its inode, size and
            modification time.
        size: Bytes of the object.
    """

    tag: str
    size: int


def version_of(uri: str) -> Version | None:
    """The version of an object, or None if there is none.

    Raises:
        PublishError: It could not be determined.
    """
    with storage_errors("check", uri):
        return patiently(_version_of, uri)


def read(uri: str) -> tuple[bytes, Version] | None:
    """The bytes of an object and their version, or None if there is no such object.

    Raises:
        PublishError: It cannot be read.
    """
    with storage_errors("read", uri):
        return patiently(_read, uri)


def put_if(uri: str, body: bytes | Path | Pieces, version: Version | None) -> bool:
    """Store an object if the one at its URI is still the given version.

    Like `objects.put`, it is atomic.

    Args:
        uri: `s3://bucket/key` or a local path; missing local folders are created.
        body: The bytes, or the path of a file with them, or a function that gives them piece by
            piece, and from the beginning when it is called again. A local file may get the other
            path as a further name in place of a copy.
        version: What has to be there; None for nothing.

    Returns:
        Whether it was stored. False means that there was another version, or that an earlier try of
        the same call stored it although its answer was lost.

    Raises:
        PublishError: The object could not be stored; a previous one is unchanged.
    """
    with storage_errors("write", uri):
        return patiently(_put_if, uri, body, version)


def put_new(uri: str, body: bytes) -> bool:
    """Store an object if there is none at its URI, as `put_if`; of several processes, one does.

    Locally this is an exclusive link (POSIX `link`), which holds without locks too.
    """
    return put_if(uri, body, None)


def remove_if(uri: str, version: Version) -> bool:
    """Remove an object if it is still the given version.

    Returns:
        Whether it was removed; False if there was another version, or none.

    Raises:
        PublishError: It could not be removed.
    """
    with storage_errors("remove", uri):
        return patiently(_remove_if, uri, version)


def pieces(body: bytes | Path | Pieces) -> Iterator[bytes]:
    """The bytes of an object that is to be stored, piece by piece."""
    if isinstance(body, bytes):
        yield body
    elif isinstance(body, Path):
        with body.open("rb") as source:
            while piece := source.read(1 << 20):
                yield piece
    else:
        yield from body()


def _version_of(uri: str) -> Version | None:
    if not is_s3(uri):
        return _local_version(Path(uri))
    bucket, key = split_s3(uri)
    head = _unless_absent(lambda: client("s3").head_object(Bucket=bucket, Key=key))
    return head and Version(head["ETag"], head["ContentLength"])


def _read(uri: str) -> tuple[bytes, Version] | None:
    if not is_s3(uri):
        try:
            with Path(uri).open("rb") as source:
                return source.read(), _version(os.fstat(source.fileno()))
        except FileNotFoundError:
            return None
    bucket, key = split_s3(uri)
    found = _unless_absent(lambda: client("s3").get_object(Bucket=bucket, Key=key))
    if found is None:
        return None
    with found["Body"] as stream:
        return bytes(stream.read()), Version(found["ETag"], found["ContentLength"])


def _put_if(uri: str, body: bytes | Path | Pieces, version: Version | None) -> bool:
    if not is_s3(uri):
        return _put_local(Path(uri), body, version)
    bucket, key = split_s3(uri)
    condition = {"IfMatch": version.tag} if version else {"IfNoneMatch": "*"}
    target = {"Bucket": bucket, "Key": key}
    parts = _parts(body)
    first = next(parts, b"")
    second = next(parts, None)
    if second is not None:
        return _put_in_parts(target, condition, chain([first, second], parts))
    s3: Any = client("s3")  # its types do not allow for arguments from a dictionary
    return _unless_changed(lambda: s3.put_object(**target, **condition, Body=first))


def _remove_if(uri: str, version: Version) -> bool:
    if is_s3(uri):
        bucket, key = split_s3(uri)
        return _unless_changed(
            lambda: client("s3").delete_object(Bucket=bucket, Key=key, IfMatch=version.tag)
        )
    path = Path(uri)
    with _locked(path.parent):
        unchanged = _local_version(path) == version
        if unchanged:
            path.unlink()
        return unchanged


def _put_local(path: Path, body: bytes | Path | Pieces, version: Version | None) -> bool:
    if isinstance(body, Path):
        with linked_part(body, path.parent) as linked:
            if linked:
                return _put_part(linked, path, version)
    with part_file(path.parent) as (part, sink):
        write_synchronised(sink, pieces(body))
        return _put_part(part, path, version)


def _put_part(part: Path, path: Path, version: Version | None) -> bool:
    """Rename a complete file if the one of that name is still the given version."""
    with _locked(path.parent):
        if version is None:
            return _link_new(part, path)
        unchanged = _local_version(path) == version
        if unchanged:
            part.replace(path)
        return unchanged


def _link_new(part: Path, path: Path) -> bool:
    try:
        path.hardlink_to(part)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            return False
        part.replace(path)
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock on a folder; without effect on a file system that has no locks on folders."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _local_version(path: Path) -> Version | None:
    try:
        return _version(path.stat())
    except FileNotFoundError:
        return None


def _version(status: os.stat_result) -> Version:
    return Version(f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}", status.st_size)


def _parts(body: bytes | Path | Pieces) -> Iterator[bytes]:
    """The parts of an upload: larger towards the end, as their number is limited."""
    number, part = 1, bytearray()
    for piece in pieces(body):
        part += piece
        while len(part) >= (size := _PART_BYTES * (1 + number // _GROWTH)):
            yield bytes(part[:size])
            del part[:size]
            number += 1
    if part:
        yield bytes(part)


def _put_in_parts(
    target: dict[str, str], condition: dict[str, str], parts: Iterator[bytes]
) -> bool:
    """Upload parts; the object appears when the upload is completed under the condition."""
    s3: Any = client("s3")  # as in `_put_if`
    upload = target | {"UploadId": s3.create_multipart_upload(**target)["UploadId"]}

    def put_part(number: int, content: bytes) -> CompletedPartTypeDef:
        part = s3.upload_part(**upload, PartNumber=number, Body=content)
        return {"ETag": part["ETag"], "PartNumber": number}

    stored = False
    try:
        done: list[CompletedPartTypeDef] = []
        with ThreadPoolExecutor(_UPLOADS, thread_name_prefix="upload") as threads:
            waiting: deque[Future[CompletedPartTypeDef]] = deque()
            for number, content in enumerate(parts, start=1):
                waiting.append(threads.submit(put_part, number, content))
                if len(waiting) == _UPLOADS:
                    done.append(waiting.popleft().result())
            done += [each.result() for each in waiting]
        stored = _unless_changed(
            lambda: s3.complete_multipart_upload(
                **upload, **condition, MultipartUpload={"Parts": done}
            )
        )
    finally:
        if not stored:
            with suppress(ClientError):
                s3.abort_multipart_upload(**upload)
    return stored


def _unless_changed(call: Callable[[], object]) -> bool:
    """Whether a conditional call was made; False if its condition did not hold."""
    try:
        call()
    except ClientError as error:
        if error.response["Error"]["Code"] in _CHANGED:
            return False
        raise
    return True


def _unless_absent(call: Callable[[], _T]) -> _T | None:
    """What a call returns, or None if there is no such object."""
    try:
        return call()
    except ClientError as error:
        if error.response["Error"]["Code"] in _ABSENT:
            return None
        raise
