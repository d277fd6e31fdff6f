"""The ledger of an image: one row and one state for each tile, which together prove coverage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tasks.grid.tiles import Grid, Tile

FAILED_CALLS = "failed_calls"
"""The column that holds a list, of texts."""

SCHEMA = pa.schema(
    [
        pa.field("tile", pa.int64(), nullable=False),
        pa.field("x", pa.int64(), nullable=False),
        pa.field("y", pa.int64(), nullable=False),
        pa.field("width", pa.int64(), nullable=False),
        pa.field("height", pa.int64(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        # of failure, of the first rejection, or what decided that it is blank
        pa.field("reason", pa.string(), nullable=False),
        pa.field("attempts", pa.int64(), nullable=False),  # calls of the model endpoint
        pa.field("rejected", pa.int64(), nullable=False),  # features that break the contract
        pa.field("without_data", pa.int64(), nullable=False),  # features wholly on no data, dropped
        pa.field("detections", pa.int64(), nullable=False),  # of the model, before the merge
        pa.field("filtered", pa.int64(), nullable=False),  # of these, by class or score
        # the first calls that failed, with the reason of each
        pa.field(FAILED_CALLS, pa.list_(pa.field("element", pa.string(), nullable=False))),
    ]
)
# px²: the area of the tile's cell (`tasks.grid.cells`) inside the region of interest
MEASURED = SCHEMA.append(pa.field("area_px", pa.float64(), nullable=False))
# of a model that answers with pixels: those of a failed tile's cell that nobody answered for
MISSING = pa.field("missing_px", pa.int64(), nullable=False)

_MAX_REASON = 1000  # characters
_MAX_FAILED_CALLS = 10  # recorded for one tile; throttled calls may be many


class TileState(StrEnum):
    """The final state of a tile."""

    INFERRED = "inferred"
    BLANK = "blank"
    OUTSIDE = "outside"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TileRecord:
    """A row of the ledger.

    Attributes:
        tile: The tile.
        state: Its final state.
        reason: Why it failed, why its first rejected feature was rejected, or what decided that it
            is blank; empty otherwise.
        attempts: Calls of the model endpoint that were made for it.
        rejected: Features of the model's answer that break the contract and were rejected.
        without_data: Features that lie wholly where there is no data, and were dropped.
        failed_calls: The reason of each call that failed, in order.
    """

    tile: Tile
    state: TileState
    reason: str = ""
    attempts: int = 0
    rejected: int = 0
    without_data: int = 0
    failed_calls: tuple[str, ...] = ()


def ledger(records: Iterable[TileRecord]) -> pa.Table:
    """A table of `SCHEMA` in the order of the grid; line breaks in reasons become spaces."""
    rows = [
        {
            "tile": record.tile.index,
            "x": record.tile.window.col_off,
            "y": record.tile.window.row_off,
            "width": record.tile.window.width,
            "height": record.tile.window.height,
            "state": record.state.value,
            "reason": _line(record.reason),
            "attempts": record.attempts,
            "rejected": record.rejected,
            "without_data": record.without_data,
            "detections": 0,
            "filtered": 0,
            "failed_calls": [_line(call) for call in record.failed_calls[:_MAX_FAILED_CALLS]],
        }
        for record in sorted(records, key=lambda record: record.tile.index)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _line(text: str) -> str:
    return " ".join(text[:_MAX_REASON].split())


def concatenate(ledgers: Sequence[pa.Table]) -> pa.Table:
    """The ledgers of regions as one, in the order of the grid."""
    return pa.concat_tables([SCHEMA.empty_table(), *ledgers]).sort_by("tile")


def completed(table: pa.Table) -> pa.Table:
    """A ledger with the numbers that an earlier version of Swath did not count, as 0."""
    for place, field in enumerate(SCHEMA):
        if field.name not in table.column_names:
            table = table.add_column(place, field, pa.array(np.zeros(len(table), np.int64)))
    return table


def with_detections(table: pa.Table, tiles: NDArray[np.int64]) -> pa.Table:
    """A ledger with the number of detections of each tile filled in.

    Args:
        table: A ledger of `SCHEMA`.
        tiles: (n,) the tile index of each detection.
    """
    return _with_counts(table, "detections", tiles)


def with_filtered(table: pa.Table, tiles: NDArray[np.int64]) -> pa.Table:
    """A ledger with the number of each tile's detections that were filtered out.

    Args:
        table: A ledger of `SCHEMA`.
        tiles: (n,) the tile index of each detection that was dropped for its class or score.
    """
    return _with_counts(table, "filtered", tiles)


def _with_counts(table: pa.Table, name: str, tiles: NDArray[np.int64]) -> pa.Table:
    found, counts = np.unique(tiles, return_counts=True)
    by_row = np.zeros(len(table), np.int64)
    by_row[np.searchsorted(table["tile"].to_numpy(), found)] = counts
    column = SCHEMA.get_field_index(name)
    return table.set_column(column, SCHEMA.field(column), pa.array(by_row))


def inferred(table: pa.Table, grid: Grid) -> NDArray[np.int8]:
    """Which tiles of a grid the model answered, by a ledger.

    Returns:
        (len(grid),) 1 for an inferred tile, 0 for one in another state, −1 for one without a row.
    """
    states = np.full(len(grid), -1, np.int8)
    states[table["tile"].to_numpy()] = _is(table, TileState.INFERRED).to_numpy()
    return states


def inferred_tiles(table: pa.Table) -> list[int]:
    """The indices of the tiles that the model answered, by a ledger."""
    tiles: list[int] = table["tile"].filter(_is(table, TileState.INFERRED)).to_pylist()
    return tiles


def failed(table: pa.Table) -> NDArray[np.bool_]:
    """(n,) whether the tile of each row of a ledger failed."""
    return np.asarray(_is(table, TileState.FAILED).to_numpy())


def count(table: pa.Table) -> dict[str, int]:
    """Number of tiles in each state; every state has an entry."""
    found = pc.value_counts(table["state"]).to_pylist()
    counts = {each["values"]: each["counts"] for each in found}
    return {state.value: counts.get(state.value, 0) for state in TileState}


def shares(table: pa.Table) -> dict[str, float]:
    """The share of the region of interest in each state; every state has an entry, the sum is 1.

    If the region of interest is too thin to have an area, tiles in it count equally.

    Args:
        table: A ledger of `MEASURED`.
    """
    sums = table.group_by("state", use_threads=False).aggregate([("area_px", "sum")])
    areas = dict(zip(sums["state"].to_pylist(), sums["area_px_sum"].to_pylist(), strict=True))
    if not any(areas.values()):
        areas = {
            state: tiles for state, tiles in count(table).items() if state != TileState.OUTSIDE
        }
    whole = sum(areas.values()) or 1
    return {state.value: areas.get(state.value, 0.0) / whole for state in TileState}


def failures(table: pa.Table, most_reasons: int, most_tiles: int) -> list[dict[str, Any]]:
    """The rows of tiles that failed: the first ones for each of the most frequent reasons.

    Args:
        table: A ledger of `SCHEMA`.
        most_reasons: Reasons to take, the most frequent first.
        most_tiles: Tiles to take for each reason, in the order of the grid.
    """
    failed = _in_state(table, TileState.FAILED)
    rows: list[dict[str, Any]] = []
    for reason, _ in reasons(table)[:most_reasons]:
        rows += failed.filter(pc.equal(failed["reason"], reason)).slice(0, most_tiles).to_pylist()
    return rows


def reasons(table: pa.Table) -> list[tuple[str, int]]:
    """Reasons of failed tiles with their number of tiles, the most frequent first."""
    return Counter(_in_state(table, TileState.FAILED)["reason"].to_pylist()).most_common()


def rejections(table: pa.Table) -> list[tuple[str, int]]:
    """Reasons of tiles' first rejected features with the number of tiles, most frequent first."""
    answered = _in_state(table, TileState.INFERRED)
    return Counter(filter(None, answered["reason"].to_pylist())).most_common()


def rejected(table: pa.Table) -> int:
    """Number of rejected features over all tiles."""
    return int(pc.sum(table["rejected"]).as_py() or 0)


def without_data(table: pa.Table) -> int:
    """Number of features that were dropped as they lie where there is no data, over all tiles."""
    return int(pc.sum(table["without_data"]).as_py() or 0)


def blank_reasons(table: pa.Table) -> list[tuple[str, int]]:
    """What decided that tiles are blank with the number of tiles, the most frequent first."""
    blank = _in_state(table, TileState.BLANK)
    return Counter(filter(None, blank["reason"].to_pylist())).most_common()


def detections(table: pa.Table) -> int:
    """Number of detections of the model, before the merge, over all tiles."""
    return int(pc.sum(table["detections"]).as_py() or 0)


def filtered(table: pa.Table) -> int:
    """Number of detections that were dropped for their class or score, over all tiles."""
    return int(pc.sum(table["filtered"]).as_py() or 0)


def calls(table: pa.Table, views: int = 1) -> tuple[int, int]:
    """Number of calls of the model endpoint over all tiles, and how many of them failed.

    Args:
        table: A ledger of `SCHEMA`.
        views: Calls that a tile takes without failures: one for each view of it.
    """
    made = int(pc.sum(table["attempts"]).as_py() or 0)
    answered = pc.and_(_is(table, TileState.INFERRED), pc.greater(table["attempts"], 0))
    return made, made - views * int(pc.sum(answered).as_py() or 0)


def _in_state(table: pa.Table, state: TileState) -> pa.Table:
    return table.filter(_is(table, state))


def _is(table: pa.Table, state: TileState) -> pa.ChunkedArray:
    return pc.equal(table["state"], state.value)
