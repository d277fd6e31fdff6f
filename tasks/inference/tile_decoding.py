"""Decodes encoded tiles and answers in pixels, as a model server and its client do."""

from __future__ import annotations

import io
import math
import threading
import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, MemoryFile

from tasks.imagery.environment import gdal_options

MAGIC = {
    b"\x93NUMPY": "NPY",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"II*\x00": "GTiff",
    b"MM\x00*": "GTiff",
    b"II+\x00": "GTiff",
    b"MM\x00+": "GTiff",
    b"NITF": "NITF",
    b"NSIF": "NITF",
}
"""First bytes of each format of tiles, and its GDAL driver; NPY is read by NumPy."""

LARGEST = 2**30
"""Maximum bytes of a decoded tile: a header of a few bytes can declare terabytes."""

Check = Callable[[tuple[int, ...], np.dtype[Any]], None]
"""Raises an error for a shape (bands, height, width) or a data type that is not wanted."""

_ANSWERS = ("NPY", "PNG", "GTiff")
_SMALL = 64 * 2**20  # bytes of a block of any raster: blocks are decoded as a whole
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_opening = threading.Lock()  # warning filters belong to the process, not to a thread


def check_size(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Refuse a tile that decodes to too many bytes.

    Raises:
        ValueError: It does.
    """
    size = math.prod(shape) * dtype.itemsize
    if size > LARGEST:
        raise ValueError(f"it holds {size} bytes of pixels, over the limit of {LARGEST}")


def is_raster(body: bytes) -> bool:
    """Whether an answer begins as a TIFF, PNG or NPY file does."""
    return _format(body) in _ANSWERS


def decode_tile(
    payload: bytes,
    media_type: str | None = None,
    *,
    what: str = "A tile",
    check: Check = check_size,
) -> NDArray[Any]:
    """The pixels of an encoded tile in any of the formats GTIFF, NITF, PNG, JPEG and NPY.

    The format is taken from the content, not from the media type.

    Args:
        payload: The encoded tile.
        media_type: The sender's media type, for error messages.
        what: What it is, for error messages.
        check: Checks its shape and data type before a pixel is decoded.

    Returns:
        (bands, height, width) in the tile's own dtype; of NPY, a view of the payload.

    Raises:
        ValueError: The payload has another format, is damaged, or decodes to too many bytes.
        SwathError: What `check` raises.
    """
    declared = f" (declared as {media_type})" if media_type else ""
    reader = _format(payload)
    if reader is None:
        raise ValueError(
            f"{what} of {len(payload)} bytes{declared} that starts with {payload[:8]!r} is not an "
            "image: send GTIFF, NITF, PNG, JPEG or NPY."
        )
    try:
        if reader == "NPY":
            return _from_npy(payload, check)
        return _from_raster(payload, reader, check)
    except (RasterioError, ValueError, TypeError, EOFError, MemoryError, RecursionError) as error:
        raise ValueError(
            f"{what} of {len(payload)} bytes{declared} cannot be decoded as {reader}: {error}. "
            "Send the complete file."
        ) from error


def _format(payload: bytes) -> str | None:
    return next((name for magic, name in MAGIC.items() if payload.startswith(magic)), None)


def _from_npy(payload: bytes, check: Check) -> NDArray[Any]:
    """Pixels of an NPY tile; (height, width) becomes one band. Objects are never unpickled."""
    file = io.BytesIO(payload)
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"version {version} of NPY is not read; write version 1.0 or 2.0")
    shape, by_columns, dtype = _HEADERS[version](file)
    whole = (1, *shape) if len(shape) == 2 else shape
    if len(whole) != 3 or min(whole) < 0 or dtype.kind not in "buifc":
        raise ValueError(f"shape {shape} of {dtype} is not (bands, height, width)")
    check(whole, dtype)
    pixels = np.frombuffer(payload, dtype, math.prod(shape), file.tell())
    return pixels.reshape(shape, order="F" if by_columns else "C").reshape(whole)


def _from_raster(payload: bytes, driver: str, check: Check) -> NDArray[Any]:
    """Pixels of a tile in a format of GDAL."""
    if driver == "PNG":
        _check_png(payload)
    with gdal_options(), MemoryFile(payload) as memory, _open(memory, driver) as dataset:
        shape, dtype = (dataset.count, dataset.height, dataset.width), np.dtype(dataset.dtypes[0])
        check(shape, dtype)
        block = max(rows * columns for rows, columns in dataset.block_shapes) * dtype.itemsize
        if block * dataset.count > max(_SMALL, 4 * math.prod(shape) * dtype.itemsize):
            raise ValueError(f"it has blocks of {block} bytes, far more than its pixels take")
        pixels: NDArray[Any] = dataset.read()
        return pixels


def _check_png(payload: bytes) -> None:
    """Check that a PNG file is whole: GDAL reads the rows that are missing as 0.

    Raises:
        ValueError: A chunk is cut short or damaged, or the last one is missing.
    """
    at, kind = 8, b""  # after the signature
    while kind != b"IEND":
        length = int.from_bytes(payload[at : at + 4])
        kind, end = payload[at + 4 : at + 8], at + 8 + length
        checksum = payload[end : end + 4]
        if len(checksum) < 4:
            raise ValueError(f"it is cut short at byte {len(payload)}")
        if zlib.crc32(payload[at + 4 : end]) != int.from_bytes(checksum):
            raise ValueError(f"its chunk {kind!r} at byte {at} is damaged")
        at = end + 4


def _open(memory: MemoryFile, driver: str) -> DatasetReader:
    """A dataset in memory, opened by that driver alone; a tile needs no georeference."""
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return memory.open(driver=driver)
