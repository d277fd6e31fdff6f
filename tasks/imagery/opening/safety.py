"""What a request may have opened: where an image may lie, and which formats are read.

The message is not trusted. An image lies in S3 or in a folder that the operator allowed, and its
first bytes say that it is one of a few raster formats, before GDAL sees it: so no virtual raster
that points elsewhere, no remote address, and no archive is ever opened. What such a file says of
other files is not followed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.errors import ImageError
from tasks.storage.roots import within

_S3 = re.compile(r"s3://([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])/(.+)", re.DOTALL)
_LONGEST_KEY = 1024  # bytes in UTF-8: S3's limit

# GDAL's HFA driver asks for .ovr, .aux and .msk files of any format, whatever it is told. It does
# not for a part of a file; this is the part from the first byte to the last.
WITHOUT_SIDECARS = "/vsisubfile/0_0,"

_SHOWN = 200  # characters of a URL that an error repeats

_SIGNATURES = {  # the first bytes of a file, and the GDAL driver that reads it
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",  # BigTIFF
    b"MM\0+": "GTiff",
    b"NITF0": "NITF",
    b"NSIF0": "NITF",
    b"\0\0\0\x0cjP  ": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",  # a bare codestream
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"EHFA_HEADER_TAG": "HFA",
}


def bucket_and_key(url: str) -> tuple[str, str] | None:
    """The bucket and key of an `s3://bucket/key` URL, or None for any other."""
    match = _S3.fullmatch(url)
    return (match[1], match[2]) if match else None


def gdal_path(url: str, roots: Sequence[Path]) -> str:
    """The path that GDAL opens for an image's URL.

    Args:
        url: `s3://bucket/key`, or the path of a file below one of `roots`.
        roots: Folders that the operator allowed; links are resolved before they are compared.

    Raises:
        ImageError: It is neither.
    """
    shown = url if len(url) <= _SHOWN else f"{url[:_SHOWN]}…"
    if "\0" in url or not _is_text(url):
        raise ImageError(f"{shown!r} is no name of an image: give s3://bucket/key in plain text.")
    if address := bucket_and_key(url):
        _check_key(shown, address[1])
        return f"/vsis3/{address[0]}/{address[1]}"
    if "://" in url or url.startswith("/vsi"):
        raise ImageError(
            f"{shown} is not read: give s3://bucket/key, or a path under a local root."
        )
    try:
        file = within(url, roots)
        regular = file is not None and file.is_file()
    except (OSError, RuntimeError) as error:  # too long, forbidden, or links in a circle
        reason = getattr(error, "strerror", "its links run in a circle")
        raise ImageError(f"{shown!r} is not a path ({reason}): give s3://bucket/key.") from error
    if file is None:
        allowed = ", ".join(str(root) for root in roots) or "there are none"
        raise ImageError(
            f"{shown} lies under none of the local roots ({allowed}): the operator allows folders "
            'with SWATH_LOCAL_ROOTS=["/folder"]; or put the image in S3.'
        )
    if not regular or not _is_text(str(file)):
        raise ImageError(f"{shown} is not a file: check the path.")
    return str(file)


def _check_key(url: str, key: str) -> None:
    if len(key.encode()) > _LONGEST_KEY:
        raise ImageError(f"{url} has a key of more than {_LONGEST_KEY} bytes: S3 has none so long.")
    if {".", ".."} & set(key.split("/")):
        # A client of HTTP may take these for the way to another object, or bucket.
        raise ImageError(
            f"{url} has a key with . or .. between slashes: give the object's own key."
        )
    if key.endswith("/"):
        raise ImageError(f"{url} is a folder: give the key of one image.")


def _is_text(name: str) -> bool:
    """Whether it can be written in UTF-8: half a surrogate pair, as JSON may hold, cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def driver_of(url: str, head: bytes) -> str:
    """The one GDAL driver that may open a file with these first bytes.

    Raises:
        ImageError: It is no format that Swath reads.
    """
    for signature, driver in _SIGNATURES.items():
        if head.startswith(signature):
            return driver
    raise ImageError(
        f"{url} is not an image that Swath reads (it begins with {head[:8]!r}): give a GeoTIFF, "
        "COG, NITF, SICD, SIDD, JPEG 2000, JPEG, PNG or HFA file."
    )


def check_raster(url: str, dataset: Any) -> None:  # noqa: ANN401 - rasterio has no types
    """Refuse an open dataset that leads to other files, or of which no tiles can be made.

    Before its masks and overviews are asked for: GDAL opens whatever the item OVERVIEW_FILE of a
    file's own metadata names, also where that is a virtual raster or a remote address.

    Args:
        url: As the request names it.
        dataset: Its open handle.

    Raises:
        ImageError: It names another file, has no raster, or mixed or unusual pixel types.
    """
    if elsewhere := dataset.tags(ns="OVERVIEWS"):
        raise ImageError(
            f"{url} names other files in its metadata ({', '.join(sorted(elsewhere))}), which are "
            "not followed: rewrite it, with gdal_translate -of COG -nomd IN OUT.tif."
        )
    if not (dataset.count and dataset.width and dataset.height):
        raise ImageError(f"{url} holds no image of its own: give one image a file.")
    types = sorted(set(dataset.dtypes))
    if len(types) > 1 or types[0] == "complex_int16":
        raise ImageError(
            f"{url} has pixels of type {', '.join(types)}: convert its bands to one numeric type."
        )
