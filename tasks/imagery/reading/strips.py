"""Reads a region's tiles in strips, so that each block is fetched and decoded only once.

A strip is one row of tiles, extended down to the end of its last row of blocks. It consists of
bands of pixels; bands that the next strip needs again are kept, so a tile may lie in several. A
second thread reads the next strip while the tiles of the current one are processed: about three
strips are in memory. A third thread decodes half of each strip.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from functools import partial
from itertools import count, groupby
from threading import Event

import numpy as np
from botocore.exceptions import BotoCoreError, ClientError
from rasterio.errors import RasterioError
from rasterio.windows import Window

from tasks.aws import clients
from tasks.errors import ImageChangedError, ImageError, ImageUnreachableError
from tasks.grid.tiles import Tile
from tasks.imagery.environment import MEBIBYTE, gdal_environment
from tasks.imagery.image import Image
from tasks.imagery.opening.dataset import check_unchanged
from tasks.imagery.opening.stored_file import RangeReader
from tasks.imagery.reading.bands import Band, Strip
from tasks.imagery.reading.blocks import absent_blocks_are_blank, any_stored, stored_ranges
from tasks.imagery.reading.buffers import BufferPool
from tasks.imagery.reading.decoder import Decoder
from tasks.imagery.reading.failed_reads import FailedReads
from tasks.imagery.reading.tile_pixels import AbsentTile, ReadTile, UnreadTile
from tasks.imagery.reading.validity import needs_mask, valid_by_value
from tasks.imagery.reading.windows import (
    block_cache,
    gaps,
    halves,
    spans,
)
from tasks.settings import settings

_ATTEMPTS = 3
_DAMAGED_ATTEMPTS = 5  # of a tile whose bytes arrived from S3 whole before each of them
_PAUSE = 0.25  # seconds before the second attempt; four times as long before each further one
_LONGEST_PAUSE = 4.0
_MOST_RANGES = 16  # that are fetched of a tile, evenly spread over its blocks
_MOST_BYTES = 8 << 20  # of such a range
_ONCE = Event()  # set: ends the repetitions of a request before they begin
_ONCE.set()


def read_tiles(
    image: Image,
    tiles: Iterable[Tile],
    *,
    read_role: str | None = None,
    on_read: Callable[[int], None] = lambda _: None,
) -> Generator[ReadTile]:
    """Read tiles, in the order given.

    Closing the iterator early waits for the strip that is being read, then ends the thread.

    Args:
        image: The image.
        tiles: Tiles of one grid, row by row; blocks that no tile intersects are not read.
        read_role: IAM role to read S3 with, or None for the process's own identity.
        on_read: Is given the stored bytes of the blocks that were read, in the threads that read.

    Yields:
        The pixels of each tile; or an `AbsentTile` if the file stores no block of it; or an
        `UnreadTile` with the reason, if the file is damaged there, or could not be fetched for
        `SWATH_READ_PATIENCE`.

    Raises:
        ImageChangedError: The image is no longer the version that was opened.
    """
    rows = (list(row) for _, row in groupby(tiles, key=lambda tile: tile.window.row_off))
    with (
        ThreadPoolExecutor(1, thread_name_prefix="strips-second") as second,
        ThreadPoolExecutor(1, thread_name_prefix="strips") as thread,
    ):
        reader = _StripReader(image, read_role, second, on_read)
        try:
            ahead = None
            for row in rows:
                strip, ahead = ahead, thread.submit(reader.read, row)
                if strip:
                    yield from _released(strip.result())
            if ahead:
                yield from _released(ahead.result())
        finally:
            reader.stop.set()
            thread.submit(reader.close).result()


def _released(tiles: list[ReadTile]) -> Iterator[ReadTile]:
    """The tiles of a strip; the list keeps none, as a tile may have made a copy of its pixels."""
    tiles.reverse()
    while tiles:
        yield tiles.pop()


class _StripReader:
    """Reads one row of tiles after the other, always in the same thread.

    Args:
        image: The image.
        read_role: IAM role to read S3 with, or None for the process's own identity.
        second: A thread that decodes half of each window.
        on_read: As in `read_tiles`.

    Attributes:
        stop: Set when the caller needs no more tiles.
    """

    def __init__(
        self,
        image: Image,
        read_role: str | None,
        second: Executor,
        on_read: Callable[[int], None],
    ) -> None:
        self.stop = Event()
        self._image = image
        self._read_role = read_role
        self._decoder, self._second_decoder = (
            Decoder(image, read_role, self.stop, on_read) for _ in range(2)
        )
        self._second = second
        self._previous: list[Strip] = []
        self._memory = BufferPool()
        self._key: str | None = None
        self._failed = FailedReads(settings().read_patience)

    def read(self, row: list[Tile]) -> list[ReadTile]:
        """Read one row of tiles as a strip; if that fails, read each tile by itself."""
        for attempt in range(_ATTEMPTS):
            found, _ = self._attempt(row)
            if found or self.stop.is_set():
                return found
            if self._failed.exhausted:
                break
            self._pause(attempt)
        single = [self._read_alone(tile) for tile in row]  # a damaged block fails only its tiles
        self._previous = []
        return single

    def _read_alone(self, tile: Tile) -> ReadTile:
        """Read a tile, as often as its bytes cannot be fetched and the patience lasts."""
        whole = 0
        for attempt in count():
            found, reason = self._attempt([tile])
            if found:
                return found[0]
            if self._failed.exhausted or self.stop.is_set():
                return UnreadTile(tile, reason, unreachable=True)
            whole += self._arrives(tile)
            if whole == (_DAMAGED_ATTEMPTS if self._image.in_s3 else 1):
                self._failed.clear()
                break
            self._pause(attempt)
        return UnreadTile(tile, reason)

    def _arrives(self, tile: Tile) -> bool:
        """Whether the stored bytes of a tile can be fetched whole, so that they are damaged.

        GDAL's errors do not tell.
        """
        image = self._image
        if not image.in_s3:
            return True
        fetch = RangeReader(image.url, image.path, self._read_role, image.stored_bytes, _ONCE)
        try:
            with self._environment():
                ranges = stored_ranges(image, self._decoder.dataset, tile.window)
            for first, size in ranges[:: -(-len(ranges) // _MOST_RANGES) or 1]:
                fetch(first, min(size, _MOST_BYTES))
        except (ImageUnreachableError, RasterioError, BotoCoreError, ClientError):
            return False
        return True

    def _pause(self, attempt: int) -> None:
        self.stop.wait(min(_LONGEST_PAUSE, _PAUSE * 4.0 ** min(attempt, 9)))

    def close(self) -> None:
        """Close the datasets; must be called in the thread that reads."""
        self._decoder.close()
        self._second.submit(self._second_decoder.close).result()
        self._previous = []

    def _attempt(self, row: list[Tile]) -> tuple[list[ReadTile], str]:
        """Read one row of tiles; on failure return no tiles and the reason."""
        if self._failed.given_up or self.stop.is_set():
            return [], self._failed.given_up
        began = time.monotonic()
        try:
            self._cache = block_cache(row, self._image)
            with self._environment():
                found = self._row(row)
        except ImageChangedError:
            raise
        except ImageError as error:  # S3 was asked again for as long as it may help
            self.close()
            self._failed.given_up = str(error)
            return [], str(error)
        except (BotoCoreError, ClientError) as error:
            return [], self._failed.add(f"no credentials to read S3 with: {error}", began)
        except RasterioError as error:
            self.close()
            cause = error.__cause__ or error.__context__
            return [], self._failed.add(f"{error} ({cause})" if cause else str(error), began)
        self._failed.clear()
        return found, ""

    def _environment(self) -> AbstractContextManager[None]:
        """Entered for each strip, so that credentials are renewed before they expire."""
        image = self._image
        chunk = MEBIBYTE // 8 if image.driver == "GTiff" else MEBIBYTE
        return gdal_environment(self._read_role, s3=image.in_s3, cache=self._cache, chunk=chunk)

    def _row(self, row: list[Tile]) -> list[ReadTile]:
        key = clients.access_key(self._read_role) if self._image.in_s3 else None
        if key != self._key:
            self.close()  # the open dataset keeps the key with which it was opened
            self._key = key
        parts = spans(row, self._image)
        strips = [self._strip(window) for window, _ in parts]
        check_unchanged(self._image, self._read_role, self.stop)
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
        return absent_blocks_are_blank(image) and not any_stored(
            image, self._decoder.dataset, tile.window
        )

    def _strip(self, window: Window) -> Strip:
        """A strip of the image; of rows that the previous strips contain, nothing is read."""
        image = self._image
        by_value = (
            partial(valid_by_value, image) if image.masked and not needs_mask(image) else None
        )
        containing = [old for old in self._previous if old.contains_columns(window)]
        if containing:
            bands = [band for band in containing[0].bands if band.bottom > window.row_off]
        else:
            bands = self._joined_band(window)
        top = bands[-1].bottom if bands else window.row_off
        bottom = window.row_off + window.height
        if top < bottom:
            bands.append(self._new_band(window.col_off, top, window.width, bottom - top))
            self._decode(bands[-1].window, bands[-1])
        return Strip(window, bands, partial(valid_by_value, image) if by_value else None)

    def _joined_band(self, window: Window) -> list[Band]:
        """The rows of a window that begin in previous strips with some of its columns, as one band.

        The shared columns are copied, the others are read. The list is empty if none are shared.
        """
        sharing = [old for old in self._previous if old.columns_shared(window)]
        if not sharing:
            return []
        known = sharing[0].window
        bottom = min(window.row_off + window.height, known.row_off + known.height)
        band = self._new_band(window.col_off, window.row_off, window.width, bottom - window.row_off)
        for old in sharing:
            for each in old.bands:
                band.copy_overlap(each)
        kept = [columns for old in sharing if (columns := old.columns_shared(window))]
        for start, stop in gaps(kept, window):
            self._decode(Window(start, window.row_off, stop - start, bottom - window.row_off), band)
        return [band]

    def _new_band(self, *window: int) -> Band:
        """A band of a window (first column and row, width, height), with arbitrary contents."""
        _, _, width, height = window
        image, shape = self._image, (height, width)
        pixels = self._memory.empty((image.bands, *shape), image.dtype)
        mask = self._memory.empty(shape, np.bool_) if needs_mask(image) else None
        return Band(Window(*window), pixels, mask)

    def _decode(self, window: Window, band: Band) -> None:
        """Decode a window of the image into its part of a band, half of it in the second thread."""
        half, *other = halves(window, self._image)
        helping = [self._second.submit(self._decode_second, each, band) for each in other]
        try:
            self._decoder.decode(half, band)
        finally:
            wait(helping)
        for each in helping:
            each.result()

    def _decode_second(self, window: Window, band: Band) -> None:
        with self._environment():
            self._second_decoder.decode(window, band)
