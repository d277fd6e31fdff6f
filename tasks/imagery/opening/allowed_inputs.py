"""The images that a request may open: allowed locations and raster formats.

The request is not trusted. An image must be in S3 or in a folder that the operator allowed, and its
first bytes must be those of one of a few raster formats, which is checked before GDAL sees it. So
GDAL never opens a virtual raster that points elsewhere, a web address or an archive. References to
other files in the header of an image are not followed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.errors import ImageError
from tasks.storage.roots import within

_S3 = re.compile(r"s3://([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])/(.+)", re.DOTALL)
_MAX_KEY = 1024  # bytes in UTF-8: S3's limit

WITHOUT_SIDECARS = "/vsisubfile/0_0,"
"""Prefix with which GDAL opens a file as a part of itself, from the first byte to the last.

GDAL's HFA driver opens .ovr, .aux and .msk files of any format beside an image, whatever GDAL's
configuration; it does not do so for a part of a file.
"""

_MAX_SHOWN = 200  # characters of a URL in an error message

SIGNATURES = {
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
"""The GDAL driver for each signature, the first bytes of a file."""


def bucket_and_key(url: str) -> tuple[str, str] | None:
    """The bucket and key of an `s3://bucket/key` URL, or None for any other."""
    match = _S3.fullmatch(url)
    return (match[1], match[2]) if match else None


def gdal_path(url: str, roots: Sequence[Path]) -> str:
    """The path that GDAL opens for an image's URL.

    Args:
        url: `s3://bucket/key`, or the path of a file below one of `roots`.
        roots: Folders that the operator allowed. Symbolic links are resolved before the check.

    Raises:
        ImageError: The URL is not valid, or the file is not below a root.
    """
    shown = url if len(url) <= _MAX_SHOWN else f"{url[:_MAX_SHOWN]}…"
    if "\0" in url or not _is_text(url):
        raise ImageError(
            f"{shown!r} is not the URL of an image: give s3://bucket/key in valid Unicode."
        )
    if address := bucket_and_key(url):
        _check_key(shown, address[1])
        return f"/vsis3/{address[0]}/{address[1]}"
    if "://" in url or url.startswith("/vsi"):
        raise ImageError(
            f"{shown} is not allowed: give s3://bucket/key, or a path under a local root."
        )
    try:
        file = within(url, roots)
        regular = file is not None and file.is_file()
    except (OSError, RuntimeError) as error:  # too long, no permission, or a loop of links
        reason = getattr(error, "strerror", "its symbolic links form a loop")
        raise ImageError(f"{shown!r} is not a path ({reason}): give s3://bucket/key.") from error
    if file is None:
        allowed = ", ".join(str(root) for root in roots) or "none"
        raise ImageError(
            f"{shown} is not under one of the local roots ({allowed}): the operator allows folders "
            'with SWATH_LOCAL_ROOTS=["/folder"] (swath up: with --root); or put the image in S3.'
        )
    if not regular or not _is_text(str(file)):
        raise ImageError(f"{shown} is not a file: check the path.")
    return str(file)


def _check_key(url: str, key: str) -> None:
    if len(key.encode()) > _MAX_KEY:
        raise ImageError(
            f"{url} has a key of more than {_MAX_KEY} bytes, the limit of S3: correct it."
        )
    if {".", ".."} & set(key.split("/")):
        # an HTTP client may resolve these to another object or bucket
        raise ImageError(
            f"{url} has a key with . or .. between slashes: give the object's own key."
        )
    if key.endswith("/"):
        raise ImageError(f"{url} is a folder: give the key of one image.")


def _is_text(name: str) -> bool:
    """Whether a name can be encoded in UTF-8: a lone surrogate, which JSON allows, cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def driver_of(url: str, head: bytes) -> str:
    """The only GDAL driver that may open a file with these first bytes.

    Raises:
        ImageError: The file has a format that Swath does not read.
    """
    for signature, driver in SIGNATURES.items():
        if head.startswith(signature):
            return driver
    raise ImageError(
        f"{url} is not an image that Swath reads (it begins with {head[:8]!r}): give a GeoTIFF, "
        "COG, NITF, SICD, SIDD, JPEG 2000, JPEG, PNG or HFA file."
    )


def check_raster(url: str, dataset: Any) -> None:  # noqa: ANN401 - rasterio has no types
    """Refuse an open dataset that refers to other files, or that cannot be cut into tiles.

    It must be called before masks and overviews are used: GDAL opens any file that the metadata
    item OVERVIEW_FILE names, even a virtual raster or a web address.

    Args:
        url: URL of the image, from the request.
        dataset: The open dataset.

    Raises:
        ImageError: It refers to another file, has no bands, or mixed or unsupported pixel types.
    """
    if references := dataset.tags(ns="OVERVIEWS"):
        raise ImageError(
            f"{url} refers to other files in its metadata ({', '.join(sorted(references))}), which "
            "Swath does not follow: rewrite it, with gdal_translate -of COG -nomd IN OUT.tif."
        )
    if not (dataset.count and dataset.width and dataset.height):
        raise ImageError(f"{url} holds no raster bands: write one image to its own file.")
    types = sorted(set(dataset.dtypes))
    if len(types) > 1 or types[0] == "complex_int16":
        raise ImageError(
            f"{url} has pixels of type {', '.join(types)}: convert its bands to one numeric type."
        )
