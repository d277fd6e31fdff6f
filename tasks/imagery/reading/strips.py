"""Read a region's tiles as rolling strips, so that every block is fetched and decoded once.

A strip is one row of tiles, down to the end of its last row of blocks. The rows that the next strip
needs again are carried forward in memory, and the next strip is read by a second thread, with
a handle of its own, while the tiles of this one are at work: about three strips in memory.
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
_PATIENCE = 240.0  # seconds that failed reads of a region may take in all
_PAUSE = 0.25  # seconds before the second attempt; each further one waits four times as long


def read_tiles(
    image: Image, tiles: Iterable[Tile], *, read_role: str | None = None
) -> Generator[ReadTile]:
    """Read tiles, in the order given.

    Closing the iterator early waits for the strip that is being read, and ends the thread.

    Args:
        image: As opened.
        tiles: Tiles of one grid, row by row; what lies between them is not read.
        read_role: IAM role to read S3 with, or None for the process's own identity.

    Yields:
        Each tile's pixels; or that the file holds none of its blocks; or the reason why it could
        not be read after three attempts.

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
    """Pixels of a window of the image, and which of them are valid."""

    window: Window
    pixels: NDArray[Any]
    valid: NDArray[np.bool_] | None

    def tile(self, tile: Tile) -> TilePixels:
        """A tile that lies within."""
        rows, columns = slices(tile.window, self.window)
        valid = None if self.valid is None else self.valid[rows, columns]
        return TilePixels(tile, self.pixels[:, rows, columns], valid)

    def carry(self, old: _Strip) -> tuple[int, int] | None:
        """Take over what another strip holds of this window; the columns taken, or None."""
        window = intersection(self.window, old.window)
        if window is None or old.window.row_off > self.window.row_off:
            return None
        here, there = slices(window, self.window), slices(window, old.window)
        self.pixels[:, *here] = old.pixels[:, *there]
        if self.valid is not None and old.valid is not None:
            self.valid[here] = old.valid[there]
        return window.col_off, window.col_off + window.width


class _StripReader:
    """Reads one row of tiles after the other, all in one thread.

    Attributes:
        stop: Set when nobody waits for the tiles any more.
    """

    def __init__(self, image: Image, read_role: str | None) -> None:
        self.stop = Event()
        self._image = image
        self._read_role = read_role
        self._dataset: Any = None
        self._open = ExitStack()
        self._carried: list[_Strip] = []
        self._memory = BufferPool()
        self._key: str | None = None
        self._failing = 0.0  # seconds that failed reads took
        self._unreachable = ""  # why the image can no longer be read at all

    def read(self, row: list[Tile]) -> list[ReadTile]:
        """The tiles of one row; those that cannot be read as one strip, each by itself."""
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
        alone: list[ReadTile] = []
        for tile in row:  # one damaged block must not cost its neighbours
            found, reason = ([], self._unreachable) if self._unreachable else self._attempt([tile])
            alone += found or [UnreadTile(tile, reason)]
        self._carried = []
        return alone

    def close(self) -> None:
        """Close the handle, in the thread that used it."""
        self._open.close()
        self._open, self._dataset, self._carried = ExitStack(), None, []

    def _attempt(self, row: list[Tile]) -> tuple[list[ReadTile], str]:
        """The tiles of one row; or none, and the reason why it could not be read this time."""
        began = time.monotonic()
        try:
            # Entered for each strip, so that credentials never grow old.
            image, cache = self._image, block_cache(row, self._image)
            chunk = MEBIBYTE // 8 if image.driver == "GTiff" else MEBIBYTE
            with gdal_environment(self._read_role, s3=image.in_s3, cache=cache, chunk=chunk):
                return self._row(row), ""
        except ImageChangedError:
            raise
        except (ImageError, BotoCoreError, ClientError) as error:
            self.close()
            # asked as often as S3's own client deems right; the next tile would only wait again
            self._unreachable = str(error)
            return [], self._unreachable
        except RasterioError as error:
            self.close()
            cause = error.__cause__ or error.__context__
            reason = f"{error} ({cause})" if cause else str(error)
            self._failing += time.monotonic() - began
            if self._failing > _PATIENCE:  # a server that is hung must not hold the job for hours
                self._unreachable = f"{self._failing:.0f} s of failed reads, at last: {reason}"
            return [], reason

    def _row(self, row: list[Tile]) -> list[ReadTile]:
        key = clients.access_key(self._read_role) if self._image.in_s3 else None
        if key != self._key:
            self.close()  # the open handle would keep the key that it was opened with
            self._key = key
        if self._dataset is None:
            self._dataset = self._open.enter_context(open_dataset(self._image, self._read_role))
        parts = spans(row, self._image)
        strips = [self._strip(window) for window, _ in parts]
        check_unchanged(self._image, self._read_role)
        self._carried = strips
        return [
            AbsentTile(tile) if self._absent(tile) else strip.tile(tile)
            for strip, (_, tiles) in zip(strips, parts, strict=True)
            for tile in tiles
        ]

    def _absent(self, tile: Tile) -> bool:
        """Whether the file holds no block of a tile; to be asked once it was read without error.

        Before, what the index says may only mean that it could not be fetched.
        """
        image = self._image
        return absent_blocks_are_blank(image) and not any_stored(image, self._dataset, tile.window)

    def _strip(self, window: Window) -> _Strip:
        """A window of the image, of which only what was not carried forward is read."""
        image = self._image
        shape = (window.height, window.width)
        strip = _Strip(
            window,
            self._memory.empty((image.bands, *shape), image.dtype),
            self._memory.empty(shape, np.bool_) if image.masked else None,
        )
        kept = [columns for old in self._carried if (columns := strip.carry(old))]
        bottom = window.row_off + window.height
        known = self._carried[0].window if kept else window
        split = min(bottom, known.row_off + known.height) if kept else window.row_off
        for start, stop in gaps(kept, window) if kept else []:
            self._read(strip, Window(start, window.row_off, stop - start, split - window.row_off))
        if split < bottom:
            self._read(strip, Window(window.col_off, split, window.width, bottom - split))
        return strip

    def _read(self, strip: _Strip, window: Window) -> None:
        """Decode a window of the image into its place in a strip."""
        here = slices(window, strip.window)
        pixels = strip.pixels[:, *here]
        self._dataset.read(window=window, out=pixels)
        if strip.valid is not None:
            strip.valid[here] = valid_pixels(self._image, self._dataset, pixels, window)
