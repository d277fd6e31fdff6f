"""Batches of tiles: one batch is one task run in Prefect."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import islice
from queue import SimpleQueue

from tasks.imagery import ReadTile
from tasks.inference.client import InferenceClient

MAX_BATCHES = 32  # of a region: more task runs would load Prefect without showing more
_SHORTEST = 5.0  # seconds that a batch of many fast tiles takes
MAX_PIXEL_BYTES = 64 * 1024 * 1024  # in all calls of a region that are in memory
MAX_RASTER_BYTES = 128 * 1024 * 1024  # of answers in pixels, in those calls
MAX_CALLS = 128  # of a region: in flight, waiting for a permit, or waiting to be retried


def batch_size(tiles: int, least: int, tiles_per_call: int) -> int:
    """The number of tiles in a batch, a multiple of `tiles_per_call`: a region has few batches.

    Args:
        tiles: Number of tiles in the region.
        least: Tiles that a batch should have at least.
        tiles_per_call: Tiles in one call of the endpoint.
    """
    wanted = max(least, -(-tiles // MAX_BATCHES))
    return -(-wanted // tiles_per_call) * tiles_per_call


def growing(size: int) -> Iterator[int]:
    """The sizes of a region's batches: after one of less than 5 s, the next is twice as large.

    A batch takes as long as until the next size is taken. Its record costs Prefect's server as much
    CPU as ten tiles cost the region, so fast tiles are in large batches.

    Args:
        size: Tiles in the first batch.
    """
    while True:
        began = time.monotonic()
        yield size
        if time.monotonic() < began + _SHORTEST:
            size *= 2


def max_calls(call_bytes: int, answer_bytes: int = 0) -> int:
    """The number of calls that a region may have in memory at a time.

    Args:
        call_bytes: Bytes of pixels in one call.
        answer_bytes: Bytes of the answers to one call, if they are in pixels.
    """
    fitting = MAX_PIXEL_BYTES // call_bytes, MAX_RASTER_BYTES // max(1, answer_bytes)
    return max(2, min(MAX_CALLS, *fitting))


class Batch:
    """The calls for a batch's tiles, which are submitted while further tiles are read."""

    def __init__(self) -> None:
        """Start without a tile."""
        self._futures: SimpleQueue[Future[int] | None] = SimpleQueue()

    def fill(self, tiles: Iterator[ReadTile], calls: InferenceClient) -> int:
        """Submit tiles as they are read, until all are submitted or the endpoint is given up.

        Args:
            tiles: The batch's tiles, read when they are taken from the iterator.
            calls: The client that calls the endpoint.

        Returns:
            The number of tiles submitted.
        """
        submitted = 0
        while not calls.stop_reason and (group := list(islice(tiles, calls.tiles_per_call))):
            submitted += len(group)
            self._futures.put(calls.submit(group))
        return submitted

    def close(self) -> None:
        """Mark the batch as complete: iteration ends after the tiles submitted so far."""
        self._futures.put(None)

    def __iter__(self) -> Iterator[int]:
        """Yield the number of tiles of each call once they are done; iterate over it only once."""
        while future := self._futures.get():
            yield future.result()


def infer(batch: Batch) -> int:
    """Wait until all of a batch's tiles are done, and return their number."""
    return sum(batch)
