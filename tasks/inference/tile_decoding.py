"""Decodes encoded tiles to pixels, as a model server does."""

from __future__ import annotations

import io
import threading
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader, MemoryFile

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

_opening = threading.Lock()  # warning filters belong to the process, not to a thread


def decode_tile(payload: bytes, media_type: str | None = None) -> NDArray[Any]:
    """The pixels of an encoded tile in any of the formats GTIFF, NITF, PNG, JPEG and NPY.

    The format is taken from the content, not from the media type.

    Args:
        payload: The encoded tile.
        media_type: The sender's media type, for error messages.

    Returns:
        (bands, height, width) in the tile's own dtype.

    Raises:
        ValueError: The payload has another format, is damaged, or decodes to too many bytes.
    """
    declared = f" (declared as {media_type})" if media_type else ""
    reader = next((name for magic, name in MAGIC.items() if payload.startswith(magic)), None)
    if reader is None:
        raise ValueError(
            f"A tile of {len(payload)} bytes{declared} that starts with {payload[:8]!r} is not an "
            "image: send GTIFF, NITF, PNG, JPEG or NPY."
        )
    try:
        return _from_npy(payload) if reader == "NPY" else _from_raster(payload, reader)
    except (RasterioError, ValueError, EOFError) as error:
        raise ValueError(
            f"A tile of {len(payload)} bytes{declared} cannot be decoded as {reader}: {error}. "
            "Send the complete file."
        ) from error


def _from_npy(payload: bytes) -> NDArray[Any]:
    """Pixels of an NPY tile; (height, width) becomes one band."""
    pixels: NDArray[Any] = np.load(io.BytesIO(payload), allow_pickle=False)
    if pixels.ndim == 2:
        pixels = pixels[np.newaxis]
    if pixels.ndim != 3 or pixels.dtype.kind not in "buifc":
        raise ValueError(f"shape {pixels.shape} of {pixels.dtype} is not (bands, height, width)")
    return pixels


def _from_raster(payload: bytes, driver: str) -> NDArray[Any]:
    """Pixels of a tile in a format of GDAL."""
    with MemoryFile(payload) as memory, _open(memory, driver) as dataset:
        size = dataset.count * dataset.height * dataset.width * np.dtype(dataset.dtypes[0]).itemsize
        if size > LARGEST:
            raise ValueError(f"it holds {size} bytes of pixels, over the limit of {LARGEST}")
        pixels: NDArray[Any] = dataset.read()
        return pixels


def _open(memory: MemoryFile, driver: str) -> DatasetReader:
    """A dataset in memory, opened by that driver alone; a tile needs no georeference."""
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return memory.open(driver=driver)
