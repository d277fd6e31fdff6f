"""What became of tiles: the model's detections with the lines of the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from tasks.grid.tiles import Tile
from tasks.results import coverage, detections
from tasks.results.coverage import TileRecord, TileState


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of inference on one tile.

    Attributes:
        record: The tile's row of the ledger.
        detections: Table of `detections.SCHEMA`; None if it would be empty.
        map: What the model answered for its pixels, from `tile_maps.encode_map`; None if it answers
            with features.
    """

    record: TileRecord
    detections: pa.Table | None = None
    map: bytes | None = None


@dataclass(frozen=True)
class TileResults:
    """The detections and the ledger of any number of tiles.

    Attributes:
        detections: Table of `detections.SCHEMA`, in pixels of the full image.
        ledger: Table of `coverage.SCHEMA`.
    """

    detections: pa.Table
    ledger: pa.Table


def results_of(outcomes: Iterable[Outcome]) -> TileResults:
    """The results of tiles as one table and ledger, in the order of the grid."""
    given = list(outcomes)
    found = [outcome.detections for outcome in given if outcome.detections is not None]
    table = detections.concatenate(found)
    ledger = coverage.ledger(outcome.record for outcome in given)
    return TileResults(table, coverage.with_detections(ledger, table["tile"].to_numpy()))


def gather(results: Iterable[TileResults]) -> TileResults:
    """Several results as one, in the order of the grid."""
    parts = list(results)
    return TileResults(
        detections.concatenate([part.detections for part in parts]),
        coverage.concatenate([part.ledger for part in parts]),
    )


def without_detections(tiles: Iterable[Tile], state: TileState, reason: str = "") -> TileResults:
    """The results of tiles that were not sent to the model, or whose region was lost."""
    return results_of(Outcome(TileRecord(tile, state, reason)) for tile in tiles)
