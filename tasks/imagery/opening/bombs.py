"""Refuse files that claim more pixels than they can hold, and blocks that fill the memory.

A file of 1 kB can claim a terabyte. What is guaranteed, before a pixel is decoded: no block decodes
to more than 256 MiB, nor does a square of 256 pixels with all bands; and what the stored blocks
decode to is no more than their bytes can hold at the best ratio of their codec. Blocks that are not
stored (sparse files) claim nothing. Of an index with more than 65,536 blocks only four runs of
4,096, the first and the last among them, are weighed, for it may lie in S3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import Interleaving

from tasks.errors import ImageError
from tasks.imagery.environment import MEBIBYTE
from tasks.imagery.opening.tiff_page import Page, Read

_BLOCK = 256 * MEBIBYTE
_SQUARE = 256  # pixels: the side of the least tile that must fit in memory with all bands
_ALL = 65_536  # blocks up to which a whole index is weighed
_RUNS, _RUN = 4, 4_096

# The most that a byte of each codec can decode to.
_DEFLATE = 1032  # RFC 1951: 258 bytes in the two bits of a length and a distance
_LZW = 3414  # a code of 12 bits for libtiff's longest string, of 4,096 + 1,024 + 1 bytes
_PACKBITS = 64  # TIFF 6.0: 128 bytes in two
_JPEG = 2048  # ITU T.81: a bit a block of 64, in a component at a sixteenth of four
_ZSTD = 32_768  # RFC 8878: a block of 128 KiB in four bytes
_ANY = MEBIBYTE  # J2K, LERC, WebP, LZMA, …: one value fills a block; no picture comes near this
_NONE = 1  # TIFF's number of no compression
_TIFF = {
    _NONE: 1,
    5: _LZW,
    6: _JPEG,
    7: _JPEG,
    8: _DEFLATE,
    32773: _PACKBITS,
    32946: _DEFLATE,
    50000: _ZSTD,
}
_YCBCR = 6  # TIFF's colour space that may store a quarter of the chroma, uncompressed too
_TOGETHER = "PNG", "JPEG", "JP2OpenJPEG"  # drivers that decode all bands of a block at once
_DRIVERS = {"PNG": _DEFLATE, "JPEG": _JPEG}
_NITF = {"NC": 1, "C3": _JPEG, "I1": _JPEG}  # by IC; masked ones store what is not blank
_REMEDY = "rewrite it in tiles, with gdal_translate -of COG IN OUT.tif"


def check_page(url: str, page: Page, read: Read, size: int) -> None:
    """Refuse a page of a TIFF that claims more than the file holds.

    Args:
        url: As the request names it.
        page: The image, or a mask.
        read: The file.
        size: Its bytes.

    Raises:
        ImageError: It is cut short or damaged, or claims more pixels than its blocks can hold.
    """
    rows, columns = page.block_shape
    if not (page.width and page.height and rows and columns):
        raise ImageError(
            f"{url} has {page.width} × {page.height} pixels in blocks of {columns} × {rows}: it is "
            "damaged; write it anew."
        )
    runs = []
    for first, count in _looked_at(page.blocks):
        runs.append(page.index(read, first, count))
        listed = min(page.offsets.count, page.sizes.count, first + count) - first
        if runs[-1].shape[1] < listed:
            raise ImageError(
                f"{url} is cut short: the index of its blocks is not all there; upload it again."
            )
    starts, sizes, decoded = np.concatenate(runs, axis=1)
    if page.compression == _NONE:
        sizes = np.minimum(sizes, decoded)  # some writers count bytes beyond the last row
    stored = (starts > 0) & (sizes > 0)
    starts, ends = starts[stored], (starts + sizes)[stored]
    if (end := ends.max(initial=0)) > size:
        raise ImageError(
            f"{url} is cut short: its blocks end at byte {end}, the file at {size}; "
            "upload it again."
        )
    ratio = _TIFF.get(page.compression, _ANY) * (2 if page.photometric == _YCBCR else 1)
    claimed, held = int(decoded[stored].sum(dtype=np.float64)), _union(starts, ends)
    if claimed > ratio * held:
        raise _bomb(url, claimed, held, ratio)


def check_aside(url: str, page: Page) -> None:
    """Refuse a mask or overview of a TIFF whose blocks are too large to decode.

    Those that are not compressed are not weighed, for GDAL reads them row by row.

    Args:
        url: As the request names it.
        page: The mask or overview.

    Raises:
        ImageError: They are.
    """
    if page.compression != _NONE:
        rows, columns = page.block_shape
        samples = 1 if page.planar else page.bands
        check_block(url, page.block_shape, max(page.block_bytes, rows * columns * samples))


def check_raster_size(
    url: str,
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    size: int,
    *,
    whole: bool = False,
) -> None:
    """Refuse an open dataset of which a block does not fit in memory, or all not into its file.

    Args:
        url: As the request names it.
        dataset: Its open handle; of a GeoTIFF only the block is weighed.
        size: Bytes of its file.
        whole: Whether one pixel costs the whole image: an interlaced PNG.

    Raises:
        ImageError: As said.
    """
    sample = np.dtype(dataset.dtypes[0]).itemsize
    together = dataset.interleaving is Interleaving.pixel or dataset.driver in _TOGETHER
    shape = dataset.shape if whole else dataset.block_shapes[0]
    bands = dataset.count if together else 1
    check_block(url, shape, shape[0] * shape[1] * sample * bands)
    if dataset.count * sample * _SQUARE**2 > _BLOCK:
        raise ImageError(
            f"{url} has {dataset.count} bands of {dataset.dtypes[0]}: {_SQUARE} × {_SQUARE} pixels "
            f"take more than {_BLOCK >> 20} MiB; give fewer bands, with gdal_translate -b."
        )
    if dataset.driver == "GTiff":
        return
    bits = int(dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8 * sample))
    claimed = dataset.width * dataset.height * dataset.count * bits // 8
    compression = dataset.tags().get("NITF_IC", "") if dataset.driver == "NITF" else ""
    ratio = _NITF.get(compression.strip(), _DRIVERS.get(dataset.driver, _ANY))
    if claimed > ratio * size:
        raise _bomb(url, claimed, size, ratio)


def check_block(url: str, shape: tuple[int, int], decoded: int) -> None:
    """Refuse blocks that are too large to decode.

    Args:
        url: As the request names it.
        shape: Rows and columns.
        decoded: Bytes of a block in memory.

    Raises:
        ImageError: They are.
    """
    if decoded > _BLOCK:
        raise ImageError(
            f"{url} is stored in blocks of {shape[1]} × {shape[0]} pixels, {decoded >> 20} MiB "
            f"each, more than {_BLOCK >> 20} MiB: {_REMEDY}."
        )


def _looked_at(blocks: int) -> list[tuple[int, int]]:
    """First block and number of the runs that are weighed; the last block is among them."""
    if blocks <= _ALL:
        return [(0, blocks)]
    return [((blocks - _RUN) * run // (_RUNS - 1), _RUN) for run in range(_RUNS)]


def _union(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> int:
    """Bytes of the file that blocks cover, those that several share counted once."""
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    before = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    return int(np.maximum(0, ends - np.maximum(starts, before)).sum())


def _bomb(url: str, claimed: int, held: int, ratio: int) -> ImageError:
    return ImageError(
        f"{url} claims {claimed} bytes of pixels in {held} bytes of file, more than "
        f"{ratio} to 1: it is damaged, or made to harm; check where it comes from."
    )
