"""Locations of images and outputs in S3 and on the local file system; file names of results.

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

IMAGE_SUFFIXES = frozenset(
    {
        *(".tif", ".tiff", ".gtiff"),
        *(".ntf", ".nitf", ".nsf", ".nsif"),  # SICD and SIDD too
        *(".jp2", ".j2k", ".j2c", ".jpc", ".jpx"),
        *(".jpg", ".jpeg"),
        ".png",
        ".img",
    }
)
"""Suffixes, in lower case, of the formats that `tasks.imagery` reads; Swath writes none of them."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_IP_ADDRESS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")
_MAX_KEY = 1024  # bytes, the limit of S3
_MAX_PREFIX = 700  # bytes; the rest of a key is for the file's name
_MAX_NAME = 200  # bytes; file systems take 255, and results add extensions


def s3_bucket(text: str) -> str:
    """Check the name of a bucket against S3's naming rules.

    Raises:
        ValueError: It is not a valid name.
    """
    if not _BUCKET.fullmatch(text) or ".." in text or _IP_ADDRESS.fullmatch(text):
        raise ValueError(
            "is not the name of an S3 bucket; give 3 to 63 lower-case letters, digits, dots and "
            "hyphens, without s3:// and without a path"
        )
    return text


def s3_object(text: str) -> str:
    """Check that a text is `s3://bucket/key`, with a key that can be a local path too.

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
    _check_segments(key)
    _check_length(key, _MAX_KEY)
    return text


def local_path(text: str) -> str:
    """Check that a text is an absolute path without `..`, not in a virtual file system of GDAL.

    Raises:
        ValueError: It is not absolute, has `..`, or begins with `/vsi`.
    """
    if not text.startswith("/"):
        raise ValueError("is neither s3://bucket/key nor an absolute path; give one of these")
    if re.match(r"/+vsi", text, re.IGNORECASE):
        raise ValueError(
            "is one of GDAL's virtual file systems; give s3://bucket/key or the path of a file"
        )
    _check_segments(text)
    return text


def redact_url(url: str) -> str:
    """A URL without its user, password, query and fragment, which may hold secrets."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def file_name(url: str) -> str:
    """The name of an image's file: the last segment of its URL."""
    return url.rpartition("/")[2]


def file_names(urls: Sequence[str]) -> dict[str, str]:
    """The file name of each image's results without their extensions, by image URL.

    It is the image's own file name. If several images have the same, the first keeps it and the
    others are numbered, `x-2.tif`, skipping names that are another image's own. An image whose
    results would have the name of another's coverage file is numbered too.

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
    """Whether `name.parquet` is the coverage file of another image."""
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
    _check_length(name, _MAX_NAME)
    return text


def _prefix(text: str) -> str:
    if "://" in text:
        raise ValueError("is a URL; give the folder within the bucket alone, such as results/")
    _check_segments(text)
    _check_length(text, _MAX_PREFIX)
    return text


def _stac_item(text: str) -> str:
    if "://" not in text:
        return local_path(text)
    parts = urlsplit(text)
    if parts.scheme not in {"https", "http", "s3"} or not parts.netloc or not parts.path.strip("/"):
        raise ValueError("does not name a file; give https://…, s3://bucket/key or a path")
    if text != redact_url(text):
        raise ValueError(
            "has a user, a query or a fragment, which may be secret and would be published; give "
            "the URL without it"
        )
    return text


def _check_segments(path: str) -> None:
    if {".", ".."} & set(path.split("/")):
        raise ValueError("holds a . or .. as a segment; write the path out without them")


def _check_length(text: str, limit: int) -> None:
    size = len(text.encode())
    if size > limit:
        raise ValueError(
            f"takes {size} bytes, and at most {limit} are allowed; shorten {text[:20]!r}…"
        )


Bucket = Annotated[str, AfterValidator(s3_bucket)]
Prefix = Annotated[Text, AfterValidator(_prefix)]
LocalPath = Annotated[
    str,
    Field(min_length=1, max_length=4096),
    AfterValidator(printable),
    AfterValidator(local_path),
]
ImageUrl = Annotated[Text, AfterValidator(_image_url)]
StacItem = Annotated[Text, AfterValidator(_stac_item)]
