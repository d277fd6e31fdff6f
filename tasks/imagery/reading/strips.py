"""Reads a region's tiles in strips, so that each block is fetched and decoded only once.

A strip is one row of tiles, extended down to the end of its last row of blocks. Rows that the next
strip needs again are copied in memory. A second thread, with its own dataset, reads the next strip
while the tiles of the current one are processed: about three strips are in memory.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from threading import Event
from typing import Any

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from tasks.aws import clients
from tasks.errors import ImageChangedError, ImageError
from tasks.grid.tiles import Tile
from tasks.imagery.environment import MEBIBYTE, gdal_environment
from tasks.imagery.image import Image
from tasks.imagery.opening.dataset import check_unchanged, open_dataset
from tasks.imagery.reading.blocks import absent_blocks_are_blank, any_stored
from tasks.imagery.reading.buffers import BufferPool
from tasks.imagery.reading.tile_pixels import AbsentTile, ReadTile, TilePixels, UnreadTile
from tasks.imagery.reading.validity import valid_pixels
from tasks.imagery.reading.windows import block_cache, gaps, intersection, slices, spans

_ATTEMPTS = 3
_MAX_FAILING = 240.0  # seconds that failed reads of a region may take in total
_PAUSE = 0.25  # seconds before the second attempt; four times as long before each further one


def read_tiles(
    image: Image, tiles: Iterable[Tile], *, read_role: str | None = None
) -> Generator[ReadTile]:
    """Read tiles, in the order given.

    Closing the iterator early waits for the strip that is being read, then ends the thread.

    Args:
        image: The image.
        tiles: Tiles of one grid, row by row; blocks that no tile intersects are not read.
        read_role: IAM role to read S3 with, or None for the process's own identity.

    Yields:
        The pixels of each tile; or an `AbsentTile` if the file stores no block of it; or an
        `UnreadTile` with the reason, after three failed attempts.

    Raises:
        ImageChangedError: The image is no longer the version that was opened.
    """
    rows = (list(row) for _, row in groupby(tiles, key=lambda tile: tile.window.row_off))
    with ThreadPoolExecutor(1, thread_name_prefix="strips") as thread:
        reader = _StripReader(image, read_role)
        try:
            ahead = None
            for row in rows:
                strip, ahead = ahead, thread.submit(reader.read, row)
                if strip:
                    yield from strip.result()
            if ahead:
                yield from ahead.result()
        finally:
            reader.stop.set()
            thread.submit(reader.close).result()


@dataclass(frozen=True, slots=True)
class _Strip:
    """The pixels of a window of the image.

    Attributes:
        window: The window in pixels of the full image.
        pixels: (bands, rows, columns) in the pixel type of the image.
        valid: (rows, columns), False for pixels without data; None if all pixels are valid.
    """

    window: Window
    pixels: NDArray[Any]
    valid: NDArray[np.bool_] | None

    def tile(self, tile: Tile) -> TilePixels:
        """The pixels of a tile inside the strip, as a view."""
        rows, columns = slices(tile.window, self.window)
        valid = None if self.valid is None else self.valid[rows, columns]
        return TilePixels(tile, self.pixels[:, rows, columns], valid)

    def copy_overlap(self, old: _Strip) -> tuple[int, int] | None:
        """Copy the pixels shared with an older strip; return their column range, or None."""
        window = intersection(self.window, old.window)
        if window is None or old.window.row_off > self.window.row_off:
            return None
        here, there = slices(window, self.window), slices(window, old.window)
        self.pixels[:, *here] = old.pixels[:, *there]
        if self.valid is not None and old.valid is not None:
            self.valid[here] = old.valid[there]
        return window.col_off, window.col_off + window.width


class _StripReader:
    """Reads one row of tiles after the other, always in the same thread.

    Attributes:
        stop: Set when the caller needs no more tiles.
    """

    def __init__(self, image: Image, read_role: str | None) -> None:
        self.stop = Event()
        self._image = image
        self._read_role = read_role
        self._dataset: Any = None
        self._open = ExitStack()
        self._previous: list[_Strip] = []
        self._memory = BufferPool()
        self._key: str | None = None
        self._failing = 0.0  # seconds spent in failed reads
        self._unreachable = ""  # the reason why the image cannot be read any more, or ""

    def read(self, row: list[Tile]) -> list[ReadTile]:
        """Read one row of tiles as a strip; if that fails, read each tile by itself."""
        reason = ""
        for attempt in range(_ATTEMPTS):
            if self._unreachable:
                break
            if attempt:
                self.stop.wait(_PAUSE * 4 ** (attempt - 1))
            found, reason = self._attempt(row)
            if found or self.stop.is_set():
                return found
        if self._unreachable or len(row) == 1:
            return [UnreadTile(tile, self._unreachable or reason) for tile in row]
        single: list[ReadTile] = []
        for tile in row:  # one damaged block must not fail the tiles beside it
            found, reason = ([], self._unreachable) if self._unreachable else self._attempt([tile])
            single += found or [UnreadTile(tile, reason)]
        self._previous = []
        return single

    def close(self) -> None:
        """Close the dataset; must be called in the thread that used it."""
        self._open.close()
        self._open, self._dataset, self._previous = ExitStack(), None, []

    def _attempt(self, row: list[Tile]) -> tuple[list[ReadTile], str]:
        """Read one row of tiles; on failure return no tiles and the reason."""
        began = time.monotonic()
        try:
            # entered for each strip, so that credentials are renewed before they expire
            image, cache = self._image, block_cache(row, self._image)
            chunk = MEBIBYTE // 8 if image.driver == "GTiff" else MEBIBYTE
            with gdal_environment(self._read_role, s3=image.in_s3, cache=cache, chunk=chunk):
                return self._row(row), ""
        except ImageChangedError:
            raise
        except (ImageError, BotoCoreError, ClientError) as error:
            self.close()
            # the S3 client has retried already: for the next tile it would wait as long again
            self._unreachable = str(error)
            return [], self._unreachable
        except RasterioError as error:
            self.close()
            cause = error.__cause__ or error.__context__
            reason = f"{error} ({cause})" if cause else str(error)
            self._failing += time.monotonic() - began
            # an unresponsive server must not block the job for hours
            if self._failing > _MAX_FAILING:
                self._unreachable = f"{self._failing:.0f} s of failed reads, the last one: {reason}"
            return [], reason

    def _row(self, row: list[Tile]) -> list[ReadTile]:
        key = clients.access_key(self._read_role) if self._image.in_s3 else None
        if key != self._key:
            self.close()  # the open dataset keeps the key with which it was opened
            self._key = key
        if self._dataset is None:
            self._dataset = self._open.enter_context(open_dataset(self._image, self._read_role))
        parts = spans(row, self._image)
        strips = [self._strip(window) for window, _ in parts]
        check_unchanged(self._image, self._read_role)
        self._previous = strips
        return [
            AbsentTile(tile) if self._absent(tile) else strip.tile(tile)
            for strip, (_, tiles) in zip(strips, parts, strict=True)
            for tile in tiles
        ]

    def _absent(self, tile: Tile) -> bool:
        """Whether the file stores no block of a tile that was read without an error.

        Before the tile is read, an empty entry of the block index may be one that could not be
        fetched.
        """
        image = self._image
        return absent_blocks_are_blank(image) and not any_stored(image, self._dataset, tile.window)

    def _strip(self, window: Window) -> _Strip:
        """Read a window of the image; pixels that the previous strips contain are copied."""
        image = self._image
        shape = (window.height, window.width)
        strip = _Strip(
            window,
            self._memory.empty((image.bands, *shape), image.dtype),
            self._memory.empty(shape, np.bool_) if image.masked else None,
        )
        kept = [columns for old in self._previous if (columns := strip.copy_overlap(old))]
        bottom = window.row_off + window.height
        known = self._previous[0].window if kept else window
        split = min(bottom, known.row_off + known.height) if kept else window.row_off
        for start, stop in gaps(kept, window) if kept else []:
            self._read(strip, Window(start, window.row_off, stop - start, split - window.row_off))
        if split < bottom:
            self._read(strip, Window(window.col_off, split, window.width, bottom - split))
        return strip

    def _read(self, strip: _Strip, window: Window) -> None:
        """Decode a window of the image into its part of a strip."""
        here = slices(window, strip.window)
        pixels = strip.pixels[:, *here]
        self._dataset.read(window=window, out=pixels)
        if strip.valid is not None:
            strip.valid[here] = valid_pixels(self._image, self._dataset, pixels, window)
