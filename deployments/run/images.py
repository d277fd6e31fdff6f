"""The images that a command is given: files, folders, patterns and objects in S3.

A folder may have a million files, so paths are text here: `Path` is ten times as slow.
"""
# ruff: noqa: PTH114, PTH118, PTH119, PTH120 - text, as above

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from tasks.errors import ImageError

_MAX_LISTED = 3  # names of skipped files in a message


@dataclass(frozen=True)
class Images:
    """The images that were found.

    Attributes:
        urls: The URL of each image in a request, an s3:// URL or an absolute path: each once, in
            the order given, and by name within a folder.
        skipped: Paths of files of folders and patterns that are not images.
    """

    urls: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    @property
    def skipped_text(self) -> str:
        """The skipped files for users; empty if there are none."""
        if not self.skipped:
            return ""
        listed = ", ".join(self.skipped[:_MAX_LISTED])
        more = len(self.skipped) - _MAX_LISTED
        rest = f" and {more} more" if more > 0 else ""
        files = "1 file is" if len(self.skipped) == 1 else f"{len(self.skipped)} files are"
        return f"{files} skipped, not being an image by name: {listed}{rest}"

    @cached_property
    def roots(self) -> list[Path]:
        """The local folders that must be allowed for reading the images, links followed."""
        files = (url for url in self.urls if "://" not in url)
        followed = (os.path.realpath(file) if os.path.islink(file) else file for file in files)
        return [*map(Path, dict.fromkeys(map(os.path.dirname, followed)))]


def find_images(given: Iterable[str]) -> Images:
    """The images that the words of a command line name.

    Args:
        given: Paths of images or of folders, patterns such as `june/*.tif` (`**` for folders at any
            depth), or s3:// URLs. A file that is named itself is taken whatever its name; of
            folders and patterns, the files with the name of an image.

    Raises:
        ImageError: A name is no file, a folder has no image, a pattern matches none, or a URL is
            not of S3.
    """
    urls: dict[str, None] = {}
    skipped: dict[str, None] = {}
    for name in given:
        found, others = _find(name)
        urls |= dict.fromkeys(found)
        skipped |= dict.fromkeys(others)
    if not urls:
        raise ImageError("There is no image to process: name a file, a folder or s3://bucket/key.")
    return Images(tuple(urls), tuple(skipped))


def absolute_path(file: str) -> Path:
    """The absolute path of a file, without `..`; a link that is the file itself is kept."""
    path = Path(file).absolute()
    return path.parent.resolve() / path.name


def _find(name: str) -> tuple[list[str], list[str]]:
    """The URLs of the images that a name stands for, and the files that are skipped."""
    if "://" in name:
        return [_checked_url(name)], []
    path = Path(name)
    if path.is_dir():
        return _images_of(name, "the folder has no image", _files(path))
    if path.is_file():
        return [str(absolute_path(name))], []
    if glob.has_magic(name):
        # not Path.glob, which takes no absolute pattern
        matches = glob.iglob(name, recursive=True)  # noqa: PTH207
        return _images_of(name, "no image matches", filter(os.path.isfile, matches))
    raise ImageError(f"{name}: there is no such file; give the path of an image or a folder.")


def _files(folder: Path) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:  # which, unlike Path.iterdir, knows what is a file
            for entry in entries:
                if entry.is_file() and not entry.name.startswith("."):
                    yield entry.path
    except OSError as error:
        raise ImageError(
            f"{folder}: the folder cannot be read ({error.strerror}); give one that you may read."
        ) from error


def _images_of(name: str, empty: str, files: Iterable[str]) -> tuple[list[str], list[str]]:
    from tasks.request.locations import IMAGE_SUFFIXES

    images: list[str] = []
    others: list[str] = []
    for file in sorted(files):
        is_image = PurePosixPath(file).suffix.lower() in IMAGE_SUFFIXES
        (images if is_image else others).append(file)
    if not images:
        seen = f" ({len(others)} other files)" if others else ""
        raise ImageError(
            f"{name}: {empty}{seen}; images end in {', '.join(sorted(IMAGE_SUFFIXES))}. "
            "Name a file itself if its name ends otherwise."
        )
    folders = {folder: Path(folder).resolve() for folder in set(map(os.path.dirname, images))}
    return [
        os.path.join(folders[os.path.dirname(image)], os.path.basename(image)) for image in images
    ], others


def _checked_url(url: str) -> str:
    if not url.startswith("s3://"):
        raise ImageError(_not_read(url))
    if url.endswith("/") or "*" in url:
        raise ImageError(
            f"{url}: prefixes and patterns in S3 are not expanded; name each object, or list them: "
            "aws s3 ls --recursive s3://BUCKET/PREFIX"
        )
    return url


def _not_read(url: str) -> str:
    """Why an image at such a URL is not read, and what to do."""
    from tasks.request.locations import redact_url

    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"}:
        return f"{redact_url(url)}: only files and s3://bucket/key are read; copy the image there."
    shown = redact_url(url)
    if parts.query:  # a signature, perhaps: it belongs into no log
        shown += "?..."
    name = shlex.quote(PurePosixPath(unquote(parts.path)).name or "scene.tif")
    return (
        f"{redact_url(url)}: images are not read over HTTP. Download it and name the file:\n"
        f"  curl -fL -o {name} {shlex.quote(shown)}\n"
        "or copy it to S3 and name the object:\n"
        f"  curl -fL {shlex.quote(shown)} | aws s3 cp - s3://BUCKET/{name}"
    )
