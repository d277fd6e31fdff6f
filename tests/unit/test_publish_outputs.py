"""Local outputs are checked before any work is done."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tasks.errors import RequestError
from tasks.publish import check_images_stay, check_outputs
from tasks.publish.formats import FORMATS
from tasks.request import FeatureFormat, FileOutput, KinesisOutput, RasterOutput, Request
from tasks.request.raster_output import RasterValues


def check(path: Path, *roots: Path) -> None:
    # Not validated, so that `..` is resolved here too and not only refused by the request.
    check_outputs([FileOutput.model_construct(type="File", path=str(path))], roots)


def test_a_folder_to_be_made_under_a_root_passes_and_is_not_made_yet(tmp_path: Path) -> None:
    check(tmp_path / "new" / "deep", tmp_path / "other", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_outside_the_roots_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "link").mkdir(parents=True)
    (root / "out").symlink_to(tmp_path)
    for path in (tmp_path, root / ".." / "x", root / "out" / "x", tmp_path / "root2"):
        with pytest.raises(RequestError, match="SWATH_LOCAL_ROOTS"):
            check(path, root)
    with pytest.raises(RequestError, match=r"\(none\)"):
        check(root)


def test_two_outputs_of_one_place_are_refused_if_one_would_remove_files_of_the_other(
    tmp_path: Path,
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    one = FileOutput(type="File", path=str(tmp_path), formats=(FeatureFormat.GEOJSON,))
    two = FileOutput(type="File", path=str(tmp_path / "link"), formats=(FeatureFormat.PARQUET,))
    with pytest.raises(RequestError, match=r"outputs\[1\].*give one output .* geojson,parquet"):
        check_outputs([one, two], [tmp_path])
    check_outputs([one, one.model_copy()], [tmp_path])


def test_a_file_where_the_folder_should_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RequestError, match=r"outputs\[0\].*file is not a folder"):
        check(tmp_path / "file" / "x", tmp_path)


def test_a_folder_below_one_that_may_not_be_entered_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Python 3.14, `Path.exists` raises PermissionError there."""
    private = tmp_path / "private"
    private.mkdir()

    def exists(path: Path) -> bool:
        if path.parent == private:
            raise PermissionError(13, "Permission denied", str(path))
        return os.path.lexists(path)

    monkeypatch.setattr(Path, "exists", exists)
    monkeypatch.setattr(os, "access", lambda path, _mode: path != private)  # also for root
    output = FileOutput(type="File", path=str(private / "results"))
    with pytest.raises(RequestError, match=f"because {private} is not a folder that this process"):
        check_outputs([output], [tmp_path])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(RequestError, match="change its permissions"):
            check(tmp_path / "x", tmp_path)
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("name", [name for name, each in FORMATS.items() if each.packages])
def test_a_format_whose_package_is_absent_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = FileOutput(type="File", path=str(tmp_path), formats=(FeatureFormat(name),))
    check_outputs([output], [tmp_path])
    monkeypatch.setattr("sys.path", [])
    for package in FORMATS[name].packages:
        monkeypatch.delitem(sys.modules, package, raising=False)
    refused = rf"outputs\[0\]\.formats: {name} is written by .*pip install 'swath\[formats\]'"
    with pytest.raises(RequestError, match=refused):
        check_outputs([output], [tmp_path])


def test_a_stream_is_refused_for_a_model_that_answers_with_pixels_alone() -> None:
    stream = KinesisOutput.model_construct(type="Kinesis", stream="features")
    with pytest.raises(RequestError, match=r"outputs\[0\]: a stream takes features.*polygons"):
        check_outputs([stream], [], RasterOutput(values=RasterValues.CLASSES))


def test_an_output_that_would_replace_an_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "a.tif")
    (tmp_path / "a.tif").touch()
    message = {
        "jobId": "j",
        "imageUrls": [str(tmp_path / "a"), str(tmp_path / "b.tif")],
        "outputs": [{"type": "File", "path": str(tmp_path)}],
        "imageProcessor": {"name": "http://127.0.0.1:9/", "type": "HTTP_ENDPOINT"},
    }
    for images in (["a"], ["a", "b.tif"], ["c", "c.tif"], ["d", "d.j.scores.tif"]):
        urls = [str(tmp_path / name) for name in images]
        request = Request.parse(json.dumps(message | {"imageUrls": urls}))
        with pytest.raises(RequestError, match=r"outputs\[0\]: .*would replace the image"):
            check_images_stay(request, urls[0], [tmp_path])
    for url in ("s3://bucket/in/a", "s3://bucket/in/a.tif"):
        outputs = [{"type": "S3", "bucket": "bucket", "prefix": "in"}]
        both = message | {"imageUrls": ["s3://bucket/in/a", "s3://bucket/in/a.tif"]}
        request = Request.parse(json.dumps(both | {"outputs": outputs}))
        if url.endswith(".tif"):
            check_images_stay(request, url, [tmp_path])
        else:
            with pytest.raises(RequestError, match="would replace the image s3:"):
                check_images_stay(request, url, [tmp_path])
