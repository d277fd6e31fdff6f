"""Objects are written and removed only if nobody has changed them, in S3 and on disk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from tasks.aws.clients import client
from tasks.errors import PublishError
from tasks.storage import conditional, objects


@pytest.fixture(params=["S3", "disk"])
def folder(request: pytest.FixtureRequest, aws: str, tmp_path: Path) -> str:
    if request.param == "disk":
        return str(tmp_path / "folder")
    name = f"conditional-{uuid4().hex[:8]}"
    client("s3").create_bucket(Bucket=name)
    return f"s3://{name}/folder"


@pytest.mark.parametrize("size", [0, 1000, 40 << 20])
def test_a_version_is_that_of_the_bytes_that_are_read(
    folder: str, tmp_path: Path, size: int
) -> None:
    uri, body = f"{folder}/x", np.random.default_rng(0).bytes(size)
    (tmp_path / "body").write_bytes(body)
    assert conditional.version_of(uri) is None
    assert conditional.read(uri) is None
    assert conditional.put_if(uri, tmp_path / "body", None)
    version = conditional.version_of(uri)
    assert version is not None
    assert version.size == size
    assert conditional.read(uri) == (body, version)


@pytest.mark.parametrize("size", [9, 40 << 20])
def test_another_version_is_neither_replaced_nor_removed(
    folder: str, tmp_path: Path, size: int
) -> None:
    uri, body = f"{folder}/x", tmp_path / "body"
    body.write_bytes(b"1" * size)
    objects.put(uri, b"first")
    first = conditional.version_of(uri)
    assert first is not None
    assert not conditional.put_if(uri, body, None)
    assert objects.get(uri) == b"first"
    assert conditional.put_if(uri, body, first)
    assert not conditional.put_if(uri, b"late", first)
    assert not conditional.remove_if(uri, first)
    second = conditional.version_of(uri)
    assert second is not None
    assert second.size == size
    assert conditional.remove_if(uri, second)
    assert not conditional.remove_if(uri, second)
    assert not conditional.put_if(uri, body, second)
    assert not objects.exists(uri)


def test_of_many_at_once_one_writes(folder: str) -> None:
    bodies = [str(number).encode() for number in range(8)]
    with ThreadPoolExecutor(len(bodies)) as threads:
        stored = list(
            threads.map(lambda body: conditional.put_if(f"{folder}/x", body, None), bodies)
        )
    assert sorted(stored) == [False] * 7 + [True]
    assert objects.get(f"{folder}/x") == bodies[stored.index(True)]


def test_an_upload_that_is_refused_leaves_no_parts(aws: str, tmp_path: Path) -> None:
    bucket, body = f"conditional-{uuid4().hex[:8]}", tmp_path / "body"
    client("s3").create_bucket(Bucket=bucket)
    body.write_bytes(bytes(40 << 20))
    objects.put(f"s3://{bucket}/x", b"another")
    assert not conditional.put_if(f"s3://{bucket}/x", body, None)
    assert "Uploads" not in client("s3").list_multipart_uploads(Bucket=bucket)


@pytest.mark.parametrize("size", [9, 40 << 20])
def test_a_bucket_that_is_gone_is_named(aws: str, tmp_path: Path, size: int) -> None:
    body = tmp_path / "body"
    body.write_bytes(bytes(size))
    with pytest.raises(
        PublishError, match=r"Cannot write s3://no-such-bucket/x .*Create the bucket"
    ):
        conditional.put_if("s3://no-such-bucket/x", body, None)
    with pytest.raises(PublishError, match="Cannot remove s3://no-such-bucket/x"):
        conditional.remove_if("s3://no-such-bucket/x", conditional.Version("x", 1))
