"""Batches of tiles: one batch is one task run in Prefect."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from itertools import islice
from queue import SimpleQueue

from tasks.imagery import ReadTile
from tasks.inference.client import InferenceClient, Outcome
from tasks.results import coverage, detections
from tasks.results.stored import TileResults

MAX_BATCHES = 32  # of a region: more task runs would load Prefect without showing more
MAX_PIXEL_BYTES = 64 * 1024 * 1024  # in all calls of a region that are in memory
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


def max_calls(call_bytes: int) -> int:
    """The number of calls that a region may have in memory at a time.

    Args:
        call_bytes: Bytes of pixels in one call.
    """
    return max(2, min(MAX_CALLS, MAX_PIXEL_BYTES // call_bytes))


class Batch:
    """The outcomes of a batch's tiles, which are submitted while further tiles are read."""

    def __init__(self) -> None:
        """Start without a tile."""
        self._futures: SimpleQueue[Future[list[Outcome]] | None] = SimpleQueue()

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

    def __iter__(self) -> Iterator[Outcome]:
        """Yield the outcome of each tile in the order submitted; can be iterated over only once."""
        while future := self._futures.get():
            yield from future.result()


def infer(batch: Batch) -> TileResults:
    """Wait for the outcomes of all of a batch's tiles, and return them as one table and ledger."""
    outcomes = list(batch)
    found = [outcome.detections for outcome in outcomes if outcome.detections is not None]
    table = detections.concatenate(found)
    ledger = coverage.ledger(outcome.record for outcome in outcomes)
    return TileResults(table, coverage.with_detections(ledger, table["tile"].to_numpy()))
