"""A batch of tiles through the model: the unit of work that Prefect sees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks import coverage, detections
from tasks.coverage import TileRecord, TileState
from tasks.errors import AnswerError, EndpointError
from tasks.findings import Findings
from tasks.imagery import AbsentTile, ReadTile, UnreadTile
from tasks.inference import Endpoint
from tasks.inference.answer import Answer, read_answer
from tasks.inference.retry import attempt
from tasks.roi import RegionOfInterest

MAX_BATCHES = 32  # of a region: more task runs cost more than they tell
MAX_BATCH_BYTES = 24 * 1024 * 1024


def batch_size(tiles: int, tile_bytes: int, least: int) -> int:
    """Tiles of one batch, so that a region has few batches and a batch little memory.

    Args:
        tiles: Tiles of the region.
        tile_bytes: Bytes of one tile's pixels.
        least: Tiles that a batch should have at least.
    """
    wanted = max(least, -(-tiles // MAX_BATCHES))
    return max(1, min(wanted, MAX_BATCH_BYTES // tile_bytes))


def infer(
    batch: Sequence[ReadTile],
    endpoint: Endpoint,
    *,
    attempts: int,
    roi: RegionOfInterest | None = None,
) -> Findings:
    """Ask a model about each tile of a batch; a tile that fails is recorded, never raised.

    Args:
        batch: Tiles with their pixels, or with the reason that they could not be read.
        endpoint: The model.
        attempts: Calls that a tile may take.
        roi: Detections whose centre lies outside it are dropped.
    """
    tables, records = [], []
    for tile in batch:
        table, record = _infer_tile(tile, endpoint, attempts)
        records.append(record)
        if table is not None:
            tables.append(table if roi is None else _within(table, roi))
    return Findings(detections.concatenate(tables), coverage.ledger(records))


def _infer_tile(
    tile: ReadTile, endpoint: Endpoint, attempts: int
) -> tuple[pa.Table | None, TileRecord]:
    if isinstance(tile, UnreadTile):
        return None, TileRecord(tile.tile, TileState.FAILED, tile.reason)
    if isinstance(tile, AbsentTile) or tile.blank:
        return None, TileRecord(tile.tile, TileState.BLANK)
    calls = 0

    def ask() -> Answer:
        nonlocal calls
        calls += 1
        return read_answer(endpoint.infer(tile), tile.tile)

    try:
        answer = attempt(ask, attempts)
    except (EndpointError, AnswerError) as error:
        return None, TileRecord(tile.tile, TileState.FAILED, str(error), calls)
    except Exception as error:
        return None, TileRecord(tile.tile, TileState.FAILED, f"{error!r:.500}", calls)
    first, left_out = next(iter(answer.rejected), ""), len(answer.rejected)
    return answer.detections, TileRecord(tile.tile, TileState.INFERRED, first, calls, left_out)


def _within(table: pa.Table, roi: RegionOfInterest) -> pa.Table:
    corners = detections.boxes(table)
    inside: np.ndarray = roi.contains((corners[:, :2] + corners[:, 2:]) / 2)
    return table.filter(pa.array(inside))


infer_task = task(name="infer", task_run_name="batch", cache_policy=NO_CACHE)(infer)
