"""Objects on disk are written atomically, read and removed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tasks.errors import PublishError
from tasks.storage import objects


def test_an_object_is_read_as_it_was_stored(tmp_path: Path) -> None:
    uri = objects.join(str(tmp_path), "job", "a.bin")
    assert not objects.exists(uri)
    objects.put(uri, b"first")
    objects.put(uri, b"second")
    assert objects.exists(uri)
    assert objects.get(uri) == b"second"
    assert [path.name for path in (tmp_path / "job").iterdir()] == ["a.bin"]


def test_a_file_is_stored_by_its_path(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 10_000)
    objects.put(str(tmp_path / "out" / "copy"), source)
    assert (tmp_path / "out" / "copy").read_bytes() == source.read_bytes()


def test_a_stored_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        objects.put(str(tmp_path / "a"), b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644


def test_a_failed_write_keeps_the_old_object_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    target = tmp_path / "a"
    objects.put(str(target), b"old")
    with pytest.raises(PublishError, match="No such file"):
        objects.put(str(target), tmp_path / "missing")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_names_the_object_and_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    uri = str(tmp_path / "file" / "below")
    with pytest.raises(PublishError, match=rf"Cannot write {uri}.*Check the path"):
        objects.put(uri, b"")
    with pytest.raises(PublishError, match="Cannot read"):
        objects.get(str(tmp_path / "absent"))


def test_only_objects_under_the_given_folder_are_removed(tmp_path: Path) -> None:
    for name in ("job-1/a", "job-1/deep/b", "job-10/a"):
        objects.put(objects.join(str(tmp_path), name), b"")
    objects.remove(str(tmp_path / "job-1"))
    objects.remove(str(tmp_path / "job-1"))
    assert [path.name for path in tmp_path.iterdir()] == ["job-10"]


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        (("s3://bucket", "", "x.tif.geojson"), "s3://bucket/x.tif.geojson"),
        (("s3://bucket/", "job/", "x"), "s3://bucket/job/x"),
        (("s3://bucket", "a/b", "x #1?.tif"), "s3://bucket/a/b/x #1?.tif"),
        (("/out", "x"), "/out/x"),
        (("/", "x"), "/x"),
    ],
)
def test_parts_are_joined_with_single_slashes(parts: tuple[str, ...], joined: str) -> None:
    assert objects.join(*parts) == joined


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://bucket/", "s3:///key"])
def test_an_s3_uri_needs_bucket_and_key(uri: str) -> None:
    with pytest.raises(PublishError, match="give a bucket and a key"):
        objects.get(uri)
