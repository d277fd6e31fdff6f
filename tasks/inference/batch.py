"""A batch of tiles: the unit of work that Prefect sees."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from itertools import islice
from queue import SimpleQueue

from tasks.imagery import ReadTile
from tasks.inference.client import InferenceClient, Outcome
from tasks.results import coverage, detections
from tasks.results.stored import TileResults

MAX_BATCHES = 32  # of a region: more task runs cost more than they tell
MAX_BYTES = 64 * 1024 * 1024  # of the tiles of a region that are in calls
MAX_CALLS = 128  # of a region, in flight, before their turn, or waiting to be made again


def batch_size(tiles: int, least: int, tiles_per_call: int) -> int:
    """Tiles of one batch, so that a region has few batches, of whole calls.

    Args:
        tiles: Tiles of the region.
        least: Tiles that a batch should have at least.
        tiles_per_call: Tiles that the model is asked about together.
    """
    wanted = max(least, -(-tiles // MAX_BATCHES))
    return -(-wanted // tiles_per_call) * tiles_per_call


def max_calls(call_bytes: int) -> int:
    """Calls that fit in a region's memory at a time.

    Args:
        call_bytes: Bytes of the pixels that a call is about.
    """
    return max(2, min(MAX_CALLS, MAX_BYTES // call_bytes))


class Batch:
    """Tiles that a model is being asked about while they are still being read."""

    def __init__(self) -> None:
        """None yet."""
        self._futures: SimpleQueue[Future[list[Outcome]] | None] = SimpleQueue()

    def fill(self, tiles: Iterator[ReadTile], calls: InferenceClient) -> int:
        """Ask about tiles as they are read, until the endpoint is given up.

        Returns:
            How many were asked about.
        """
        asked = 0
        while not calls.stop_reason and (group := list(islice(tiles, calls.tiles_per_call))):
            asked += len(group)
            self._futures.put(calls.submit(group))
        return asked

    def close(self) -> None:
        """Nothing more will come, whoever waits for it."""
        self._futures.put(None)

    def __iter__(self) -> Iterator[Outcome]:
        """The outcome of each tile, in order, as soon as it is there; to be asked for once."""
        while future := self._futures.get():
            yield from future.result()


def infer(batch: Batch) -> TileResults:
    """What a model says of each tile of a batch that it is being asked about."""
    outcomes = list(batch)
    found = [outcome.detections for outcome in outcomes if outcome.detections is not None]
    table = detections.concatenate(found)
    ledger = coverage.ledger(outcome.record for outcome in outcomes)
    return TileResults(table, coverage.with_detections(ledger, table["tile"].to_numpy()))
