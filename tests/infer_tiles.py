"""Inference of tiles with one endpoint, as in a region's run."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing

from tasks.imagery import ReadTile
from tasks.inference import Endpoint
from tasks.inference.batch import Batch, infer
from tasks.inference.client import InferenceClient
from tasks.inference.limiter import Limiter
from tasks.results.coverage import TileState
from tasks.results.tile_results import (
    Outcome,
    TileResults,
    gather,
    results_of,
    without_detections,
)


def infer_tiles(
    tiles: Iterable[ReadTile],
    endpoint: Endpoint,
    *,
    attempts: int = 3,
    retry_seconds: float = 60.0,
    max_calls: int = 8,
) -> TileResults:
    """The results of an endpoint for tiles."""
    given, outcomes = list(tiles), list[Outcome]()
    calls = InferenceClient(
        endpoint,
        Limiter(max_calls),
        tiles=len(given),
        max_calls=max_calls,
        attempts=attempts,
        retry_seconds=retry_seconds,
        keep=outcomes.extend,
    )
    with closing(calls):
        batch = Batch()
        with closing(batch):
            filled = batch.fill(iter(given), calls)
        assert infer(batch) == filled
    not_called = [tile.tile for tile in given[filled:]]
    return gather(
        [results_of(outcomes), without_detections(not_called, TileState.FAILED, calls.stop_reason)]
    )
