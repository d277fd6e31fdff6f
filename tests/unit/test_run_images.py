"""The images that the words of a command line name."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.run.images import Images, find_images
from deployments.run.model import ModelOptions
from deployments.run.options import RunOptions
from tasks.errors import ImageError


@pytest.fixture
def june(tmp_path: Path) -> Path:
    """A folder of two images, their sidecars, a hidden file and a subfolder with an image."""
    folder = tmp_path / "june"
    (folder / "raw").mkdir(parents=True)
    for name in ("b.TIF", "a.ntf", "a.ntf.aux.xml", "notes.txt", ".c.tif", "raw/d.jp2"):
        (folder / name).touch()
    return folder


def names(images: Images) -> list[str]:
    return [Path(url).name for url in images.urls]


def test_a_folder_is_its_images_by_name(june: Path) -> None:
    found = find_images([str(june)])
    assert found.urls == (str(june / "a.ntf"), str(june / "b.TIF"))
    assert found.roots == [june]
    assert found.skipped_text == (
        f"2 files are skipped, not being an image by name: {june}/a.ntf.aux.xml, {june}/notes.txt"
    )


def test_many_skipped_files_are_counted(tmp_path: Path) -> None:
    for name in ("scene.tif", *(f"{number}.txt" for number in range(9))):
        (tmp_path / name).touch()
    text = find_images([str(tmp_path)]).skipped_text
    assert text.startswith("9 files are skipped")
    assert text.endswith("2.txt and 6 more")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.TIF", ["b.TIF"]),
        ("*", ["a.ntf", "b.TIF"]),
        ("**/*.jp2", ["d.jp2"]),
        ("?.nt[ef]", ["a.ntf"]),
    ],
)
def test_a_pattern_is_the_images_that_match(june: Path, pattern: str, expected: list[str]) -> None:
    assert names(find_images([f"{june}/{pattern}"])) == expected


def test_a_pattern_may_be_relative(june: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(june)
    assert find_images(["*.ntf", "b.TIF", "."]).urls == (str(june / "a.ntf"), str(june / "b.TIF"))


def test_a_file_that_is_named_is_taken_whatever_its_name(june: Path) -> None:
    odd = june / "scene[1]*.r0"
    odd.touch()
    assert find_images([str(june / "notes.txt"), str(odd)]).skipped == ()
    assert names(find_images([str(june / "notes.txt"), str(odd)])) == ["notes.txt", "scene[1]*.r0"]


def test_an_image_that_is_named_twice_is_one(june: Path) -> None:
    given = [str(june / "raw" / ".." / "b.TIF"), str(june), f"{june}/*.TIF", "s3://b/k", "s3://b/k"]
    found = find_images(given)
    assert names(found) == ["b.TIF", "a.ntf", "k"]
    assert found.roots == [june]


def test_a_link_is_named_as_it_is_and_read_where_it_leads(june: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.tif"
    link.symlink_to(june / "b.TIF")
    found = find_images([str(link)])
    assert (found.urls, found.roots) == ((str(link),), [june])


def test_images_of_one_name_have_results_of_their_own(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "scene.tif").touch()
    given = (str(tmp_path / "a"), str(tmp_path / "b" / "scene.tif"))
    request = RunOptions(images=given, model=ModelOptions("centerpoint"), out=tmp_path).request()
    assert [*request.file_names().values()] == ["scene.tif", "scene-2.tif"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("none.tif", "none.tif: there is no such file; give the path of an image or a folder."),
        ("empty", "empty: the folder has no image; images end in .gtiff, "),
        ("texts", "texts: the folder has no image (1 other files); images end in"),
        ("none/*.tif", "none/*.tif: no image matches; images end in"),
        ("texts/*.txt", "texts/*.txt: no image matches (1 other files)"),
        ("gs://bucket/a.tif", "gs://bucket/a.tif: only files and s3://bucket/key are read"),
        ("file:///data/a.tif", "file:///data/a.tif: only files and s3://bucket/key are read"),
        ("s3://bucket/june/*.tif", "s3://bucket/june/*.tif: prefixes and patterns in S3 are not"),
        ("s3://bucket/june/", "s3://bucket/june/: prefixes and patterns in S3 are not expanded"),
    ],
)
def test_a_name_without_images_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, reason: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ImageError) as caught:
        find_images([given])
    assert str(caught.value).startswith(reason)


def test_no_name_at_all_is_refused() -> None:
    with pytest.raises(ImageError, match="no image to process: name a file, a folder or s3://"):
        find_images([])


def test_an_image_on_the_web_is_answered_with_what_to_do() -> None:
    with pytest.raises(ImageError) as caught:
        find_images(["https://me:pass@example.org/june/a%20b.tif?X-Signature=secret"])
    text = str(caught.value)
    assert "curl -fL -o 'a b.tif' 'https://example.org/june/a%20b.tif?...'" in text
    assert "| aws s3 cp - s3://BUCKET/'a b.tif'" in text
    assert "secret" not in text
    assert "pass" not in text
