"""Where the message says that images are read and results are written: S3 and local paths.

Checks raise ValueError with the end of a sentence, as those of `tasks.request.field_types` do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, Field

from tasks.request.field_types import Text, printable

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")
_MAX_KEY = 1024  # bytes, S3's own limit
_MAX_PREFIX = 700  # leaves room for the name of a file
_MAX_NAME = 200  # bytes; file systems take 255, and results add endings


def s3_bucket(text: str) -> str:
    """Check the name of a bucket by S3's naming rules.

    Raises:
        ValueError: S3 has no bucket of that name.
    """
    if not _BUCKET.fullmatch(text) or ".." in text or _ADDRESS.fullmatch(text):
        raise ValueError(
            "is not the name of an S3 bucket; give 3 to 63 lower-case letters, digits, dots and "
            "hyphens, without s3:// and without a path"
        )
    return text


def s3_object(text: str) -> str:
    """Check that a text is `s3://bucket/key`, with a key that a path can follow.

    Raises:
        ValueError: It is not.
    """
    bucket, _, key = text.removeprefix("s3://").partition("/")
    if not text.startswith("s3://") or not key or key.endswith("/"):
        raise ValueError("does not name an object; give s3://bucket/key")
    try:
        s3_bucket(bucket)
    except ValueError:
        raise ValueError(f"names {bucket!r}, not an S3 bucket; give s3://bucket/key") from None
    _sane_segments(key)
    _fits(key, _MAX_KEY)
    return text


def local_path(text: str) -> str:
    """Check that a text is an absolute path of a real file system, without `..`.

    Raises:
        ValueError: It is not; GDAL's virtual file systems (`/vsi…`) are none.
    """
    if not text.startswith("/"):
        raise ValueError("is neither s3://bucket/key nor an absolute path; give one of these")
    if re.match(r"/+vsi", text, re.IGNORECASE):
        raise ValueError(
            "is one of GDAL's virtual file systems; give s3://bucket/key or the path of a file"
        )
    _sane_segments(text)
    return text


def redact_url(url: str) -> str:
    """A URL without the secrets that it may hold: no user, no password, no query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def file_name(url: str) -> str:
    """The name of an image's file: the last segment of its URL."""
    return url.rpartition("/")[2]


def file_names(urls: Sequence[str]) -> dict[str, str]:
    """The name, by image URL, that each image's results have before their endings.

    It is the image's own file name. Of images with one name the first keeps it and the others are
    numbered, `x-2.tif`, past any number that is the own name of another image; so is an image whose
    results would have the name of another's coverage.

    Args:
        urls: Distinct image URLs, in the order of the message.
    """
    taken = {file_name(url) for url in urls}
    numbers: dict[str, count[int]] = {}
    names: dict[str, str] = {}
    for url in urls:
        own = name = file_name(url)
        first = own not in numbers
        numbers.setdefault(own, count(2))
        path = PurePosixPath(own)
        while (name in taken and not (first and name == own)) or _is_coverage(name, taken):
            name = f"{path.stem}-{next(numbers[own])}{path.suffix}"
        taken.add(name)
        names[url] = name
    return names


def _is_coverage(name: str, taken: set[str]) -> bool:
    """Whether `name.parquet` is where another image's coverage goes."""
    return name.endswith(".coverage") and name.removesuffix(".coverage") in taken


def _image_url(text: str) -> str:
    if re.match("file:", text, re.IGNORECASE):
        raise ValueError("is a file URL; give the path alone, such as /data/scene.tif")
    if text.startswith("s3://"):
        s3_object(text)
    else:
        local_path(text)
    name = file_name(text)
    if not name:
        raise ValueError("is a folder; give the path of one image in it")
    if name != name.strip():
        raise ValueError("has a file name that begins or ends with a space; rename the file")
    _fits(name, _MAX_NAME)
    return text


def _prefix(text: str) -> str:
    if "://" in text:
        raise ValueError("is a URL; give the folder within the bucket alone, such as results/")
    _sane_segments(text)
    _fits(text, _MAX_PREFIX)
    return text


def _sane_segments(path: str) -> None:
    if {".", ".."} & set(path.split("/")):
        raise ValueError("holds a . or .. as a segment; write the path out without them")


def _fits(text: str, limit: int) -> None:
    size = len(text.encode())
    if size > limit:
        raise ValueError(f"takes {size} bytes where {limit} fit; shorten {text[:20]!r}…")


Bucket = Annotated[str, AfterValidator(s3_bucket)]
Prefix = Annotated[Text, AfterValidator(_prefix)]
LocalPath = Annotated[
    str,
    Field(min_length=1, max_length=4096),
    AfterValidator(printable),
    AfterValidator(local_path),
]
ImageUrl = Annotated[Text, AfterValidator(_image_url)]
