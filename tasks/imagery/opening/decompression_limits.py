"""Refuses decompression bombs: more pixels than a file can hold, or blocks that exhaust the memory.

A file of 1 kB can claim a terabyte of pixels. These limits are checked before a pixel is decoded: a
block decodes to at most 256 MiB; so does a square of 256 × 256 pixels with all bands; and the
stored blocks decode to at most the bytes that the best compression ratio of their codec allows.
Blocks that a sparse file leaves out are not counted. In an index with more than 65,536 blocks,
which may have to be fetched from S3, only four runs of 4,096 blocks are checked, the first and the
last run of the index among them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Interleaving

from tasks.errors import ImageError
from tasks.imagery.environment import MEBIBYTE
from tasks.imagery.opening.stored_file import ReadBytes
from tasks.imagery.opening.tiff import Page

_MAX_BLOCK = 256 * MEBIBYTE
_SQUARE = 256  # pixels: side of the smallest tile that must fit in memory with all bands
_MAX_FULL_INDEX = 65_536  # blocks up to which the whole index is checked
_RUNS, _RUN = 4, 4_096

# The most bytes that one byte of each codec can decode to.
_DEFLATE = 1032  # RFC 1951: 258 bytes in the two bits of a length and a distance
_LZW = 3414  # a code of 12 bits for libtiff's longest string, of 4,096 + 1,024 + 1 bytes
_PACKBITS = 64  # TIFF 6.0: 128 bytes in two
_JPEG = 2048  # ITU T.81: one bit for a block of 64 samples (512), times 4 for subsampled components
_ZSTD = 32_768  # RFC 8878: a block of 128 KiB in four bytes
_OTHER = MEBIBYTE  # J2K, LERC, WebP, LZMA, …: one value can fill a block; far above real images
_UNCOMPRESSED = 1  # TIFF's number
_TIFF_RATIOS = {
    _UNCOMPRESSED: 1,
    5: _LZW,
    6: _JPEG,
    7: _JPEG,
    8: _DEFLATE,
    32773: _PACKBITS,
    32946: _DEFLATE,
    50000: _ZSTD,
}
_YCBCR = 6  # TIFF's colour space in which chroma may be subsampled by 4, uncompressed too
_ALL_BANDS_AT_ONCE = "PNG", "JPEG", "JP2OpenJPEG"  # drivers that decode all bands of a block
_DRIVER_RATIOS = {"PNG": _DEFLATE, "JPEG": _JPEG}
_NITF_RATIOS = {"NC": 1, "C3": _JPEG, "I1": _JPEG}  # by IC; masked kinds leave out blank blocks
_REMEDY = "rewrite it in tiles, with gdal_translate -of COG IN OUT.tif"


def check_page(url: str, page: Page, read: ReadBytes, size: int) -> None:
    """Refuse a page of a TIFF that claims more pixels than the file can hold.

    Args:
        url: URL of the image, from the request.
        page: The image itself, or a mask.
        read: Reads the file.
        size: Size of the file in bytes.

    Raises:
        ImageError: The page is cut short or damaged, or its blocks cannot hold what it claims.
    """
    rows, columns = page.block_shape
    if not (page.width and page.height and rows and columns):
        raise ImageError(
            f"{url} has {page.width} × {page.height} pixels in blocks of {columns} × {rows}: it is "
            "damaged; create it again."
        )
    runs = []
    for first, count in _checked_runs(page.blocks):
        runs.append(page.index(read, first, count))
        listed = min(page.offsets.count, page.sizes.count, first + count) - first
        if runs[-1].shape[1] < listed:
            raise ImageError(
                f"{url} is cut short: the index of its blocks is incomplete; upload it again."
            )
    starts, sizes, decoded = np.concatenate(runs, axis=1)
    if page.compression == _UNCOMPRESSED:
        sizes = np.minimum(sizes, decoded)  # some writers count bytes beyond the last row
    stored = (starts > 0) & (sizes > 0)
    starts, ends = starts[stored], (starts + sizes)[stored]
    if (end := ends.max(initial=0)) > size:
        raise ImageError(
            f"{url} is cut short: its blocks end at byte {end}, the file at {size}; "
            "upload it again."
        )
    ratio = _TIFF_RATIOS.get(page.compression, _OTHER) * (2 if page.photometric == _YCBCR else 1)
    claimed, held = int(decoded[stored].sum(dtype=np.float64)), _covered_bytes(starts, ends)
    if claimed > ratio * held:
        raise _bomb_error(url, claimed, held, ratio)


def check_auxiliary_page(url: str, page: Page) -> None:
    """Refuse a mask or overview of a TIFF whose blocks are too large to decode.

    Uncompressed blocks are not checked, as GDAL reads them row by row.

    Args:
        url: URL of the image, from the request.
        page: The mask or overview.

    Raises:
        ImageError: The blocks are too large.
    """
    if page.compression != _UNCOMPRESSED:
        rows, columns = page.block_shape
        samples = 1 if page.planar else page.bands
        check_block(url, page.block_shape, max(page.block_bytes, rows * columns * samples))


def check_raster_size(
    url: str,
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    size: int,
    *,
    one_block: bool = False,
) -> None:
    """Refuse an open dataset with blocks that are too large, or too many pixels for its file.

    Args:
        url: URL of the image, from the request.
        dataset: The open dataset. Of a GeoTIFF only the block size is checked here.
        size: Size of the file in bytes.
        one_block: Whether any pixel needs the whole image decoded: an interlaced PNG.

    Raises:
        ImageError: A block or a square of 256 × 256 pixels is too large, or the file is too small
            for its pixels.
    """
    sample = np.dtype(dataset.dtypes[0]).itemsize
    together = dataset.interleaving is Interleaving.pixel or dataset.driver in _ALL_BANDS_AT_ONCE
    shape = dataset.shape if one_block else dataset.block_shapes[0]
    bands = dataset.count if together else 1
    check_block(url, shape, shape[0] * shape[1] * sample * bands)
    if dataset.count * sample * _SQUARE**2 > _MAX_BLOCK:
        raise ImageError(
            f"{url} has {dataset.count} bands of {dataset.dtypes[0]}: {_SQUARE} × {_SQUARE} pixels "
            f"take more than {_MAX_BLOCK >> 20} MiB; give fewer bands, with gdal_translate -b."
        )
    if dataset.driver == "GTiff":
        return
    bits = int(dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8 * sample))
    claimed = dataset.width * dataset.height * dataset.count * bits // 8
    compression = dataset.tags().get("NITF_IC", "") if dataset.driver == "NITF" else ""
    ratio = _NITF_RATIOS.get(compression.strip(), _DRIVER_RATIOS.get(dataset.driver, _OTHER))
    if claimed > ratio * size:
        raise _bomb_error(url, claimed, size, ratio)


def check_block(url: str, shape: tuple[int, int], decoded: int) -> None:
    """Refuse blocks that are too large to decode.

    Args:
        url: URL of the image, from the request.
        shape: Rows and columns of a block.
        decoded: Bytes of a block in memory.

    Raises:
        ImageError: The blocks are too large.
    """
    if decoded > _MAX_BLOCK:
        raise ImageError(
            f"{url} is stored in blocks of {shape[1]} × {shape[0]} pixels, {decoded >> 20} MiB "
            f"each, more than {_MAX_BLOCK >> 20} MiB: {_REMEDY}."
        )


def _checked_runs(blocks: int) -> list[tuple[int, int]]:
    """First block and length of each run of blocks to check; the last block is always included."""
    if blocks <= _MAX_FULL_INDEX:
        return [(0, blocks)]
    return [((blocks - _RUN) * run // (_RUNS - 1), _RUN) for run in range(_RUNS)]


def _covered_bytes(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> int:
    """Bytes of the file that blocks cover; bytes shared by several blocks are counted once."""
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    before = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    return int(np.maximum(0, ends - np.maximum(starts, before)).sum())


def _bomb_error(url: str, claimed: int, held: int, ratio: int) -> ImageError:
    return ImageError(
        f"{url} claims {claimed} bytes of pixels in {held} bytes of file, more than "
        f"{ratio} to 1: it is damaged or a decompression bomb; check where it comes from."
    )
