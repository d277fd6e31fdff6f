"""What a request may have opened: where an image may lie, and which formats are read.

The message is not trusted. An image lies in S3 or in a folder that the operator allowed, and its
first bytes say that it is one of a few raster formats, before GDAL sees it: so no virtual raster
that points elsewhere, no remote address, and no archive is ever opened.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.errors import ImageError

_S3 = re.compile(r"s3://([a-z0-9][a-z0-9._-]{1,61}[a-z0-9])/(.+)", re.DOTALL)

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
    if address := bucket_and_key(url):
        return f"/vsis3/{address[0]}/{address[1]}"
    if "://" in url or url.startswith("/vsi"):
        raise ImageError(f"{url} is not read: give s3://bucket/key, or a path under a local root.")
    try:
        file = Path(url).resolve()
        inside = any(file.is_relative_to(root.resolve()) for root in roots)
    except (OSError, ValueError) as error:
        raise ImageError(f"{url!r} is not a path ({error}): give s3://bucket/key.") from error
    if not inside:
        allowed = ", ".join(str(root) for root in roots) or "there are none"
        raise ImageError(
            f"{url} lies under none of the local roots ({allowed}): the operator allows folders "
            'with SWATH_LOCAL_ROOTS=["/folder"]; or put the image in S3.'
        )
    if not file.is_file():
        raise ImageError(f"{url} is not a file: check the path.")
    return str(file)


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


def check_raster(url: str, dataset: Any, size: int) -> None:  # noqa: ANN401 - rasterio has no types
    """Refuse an open dataset of which no tiles can be made.

    Args:
        url: As the request names it.
        dataset: Its open handle.
        size: Bytes of its file.

    Raises:
        ImageError: It has no raster, mixed or unusual pixel types, or is cut short.
    """
    if not (dataset.count and dataset.width and dataset.height):
        parts = ", ".join(dataset.subdatasets) or "no raster"
        raise ImageError(f"{url} holds no image of its own, but {parts}: give one image a file.")
    types = sorted(set(dataset.dtypes))
    if len(types) > 1 or types[0] == "complex_int16":
        raise ImageError(
            f"{url} has pixels of type {', '.join(types)}: convert its bands to one numeric type."
        )
    if dataset.driver == "GTiff" and (end := _last_byte(dataset)) > size:
        raise ImageError(
            f"{url} is cut short: its blocks end at byte {end}, the file at {size}; "
            "upload it again."
        )


def _last_byte(dataset: Any) -> int:  # noqa: ANN401 - rasterio has no types
    """End of a TIFF's last block in its file, which most writers put last."""
    rows, columns = dataset.block_shapes[0]
    block = f"{(dataset.width - 1) // columns}_{(dataset.height - 1) // rows}"
    offset, size = (
        dataset.get_tag_item(f"{item}_{block}", "TIFF", bidx=dataset.count)
        for item in ("BLOCK_OFFSET", "BLOCK_SIZE")
    )
    return int(offset or 0) + int(size or 0)
