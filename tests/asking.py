"""A model asked about tiles, as a region's run does it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

from tasks.imagery import ReadTile
from tasks.inference import Endpoint
from tasks.inference.batch import Batch, infer
from tasks.inference.client import InferenceClient
from tasks.inference.limiter import Limiter
from tasks.results.coverage import TileState
from tasks.results.stored import TileResults, gather, without_detections


def ask(
    tiles: Iterable[ReadTile],
    endpoint: Endpoint,
    *,
    attempts: int = 3,
    retry_seconds: float = 60.0,
    max_calls: int = 8,
) -> TileResults:
    """What a model says of tiles."""
    given = list(tiles)
    calls = InferenceClient(
        endpoint,
        Limiter(max_calls),
        tiles=len(given),
        max_calls=max_calls,
        attempts=attempts,
        retry_seconds=retry_seconds,
    )
    with closing(calls):
        batch = Batch()
        with closing(batch):
            asked = batch.fill(iter(given), calls)
        found = infer(batch)
    unasked = [tile.tile for tile in given[asked:]]
    return gather([found, without_detections(unasked, TileState.FAILED, calls.stop_reason)])
