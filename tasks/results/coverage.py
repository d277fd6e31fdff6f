"""The ledger that proves every pixel was looked at: each tile in exactly one state."""

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

from tasks.grid import cells
from tasks.grid.roi import RegionOfInterest
from tasks.grid.tiles import Grid, Tile

SCHEMA = pa.schema(
    [
        pa.field("tile", pa.int64(), nullable=False),
        pa.field("x", pa.int64(), nullable=False),
        pa.field("y", pa.int64(), nullable=False),
        pa.field("width", pa.int64(), nullable=False),
        pa.field("height", pa.int64(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),  # of failure, or of the first feature lost
        pa.field("attempts", pa.int64(), nullable=False),  # calls of the model
        pa.field("rejected", pa.int64(), nullable=False),  # features of a broken contract
        pa.field("detections", pa.int64(), nullable=False),  # that it gave, before the merge
        # what became of each call that failed, the first ones
        pa.field("failed_calls", pa.list_(pa.field("element", pa.string(), nullable=False))),
    ]
)
# px²: how much of its cell (`tasks.grid.cells`) is asked for
MEASURED = SCHEMA.append(pa.field("area_px", pa.float64(), nullable=False))

_TOLERANCE = 1e-9  # of the area; of a sliver's, of a strip a pixel wide along its edge
_LONGEST = 1000  # characters of a reason
_MOST_CALLS = 10  # that are told of for one tile; throttled ones may be many
_SPECK = 1e-4  # px²: what rounding may leave of a polygon that ends at a cell's edge


class TileState(StrEnum):
    """What became of a tile."""

    INFERRED = "inferred"
    BLANK = "blank"
    OUTSIDE = "outside"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class TileRecord:
    """A line of the ledger.

    Attributes:
        tile: The tile.
        state: What became of it.
        reason: Why it failed, or why the first feature was left out; empty otherwise.
        attempts: Calls of the model that were made for it.
        rejected: Features of the model's answer that broke the contract and were left out.
        failed_calls: What became of each call that failed, in order.
    """

    tile: Tile
    state: TileState
    reason: str = ""
    attempts: int = 0
    rejected: int = 0
    failed_calls: tuple[str, ...] = ()


def ledger(records: Iterable[TileRecord]) -> pa.Table:
    """Records as a table of `SCHEMA`, in the order of the grid, each reason in one line."""
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
            "detections": 0,
            "failed_calls": [_line(call) for call in record.failed_calls[:_MOST_CALLS]],
        }
        for record in sorted(records, key=lambda record: record.tile.index)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _line(text: str) -> str:
    return " ".join(text[:_LONGEST].split())


def concatenate(ledgers: Sequence[pa.Table]) -> pa.Table:
    """The regions' ledgers as the image's, in the order of the grid."""
    return pa.concat_tables([SCHEMA.empty_table(), *ledgers]).sort_by("tile")


def with_detections(table: pa.Table, tiles: NDArray[np.int64]) -> pa.Table:
    """A ledger that says how many detections each of its tiles gave.

    Args:
        table: Of `SCHEMA`.
        tiles: (n,) the tile of each detection.
    """
    found, counts = np.unique(tiles, return_counts=True)
    lines = np.zeros(len(table), np.int64)
    lines[np.searchsorted(table["tile"].to_numpy(), found)] = counts
    place = SCHEMA.get_field_index("detections")
    return table.set_column(place, SCHEMA.field(place), pa.array(lines))


def inferred(table: pa.Table, grid: Grid) -> NDArray[np.int8]:
    """What a ledger says of every tile of a grid.

    Returns:
        (len(grid),) 1 where a model looked at the tile, 0 where none did, −1 where it has no line.
    """
    looked = np.full(len(grid), -1, np.int8)
    looked[table["tile"].to_numpy()] = _is(table, TileState.INFERRED).to_numpy()
    return looked


def count(table: pa.Table) -> dict[str, int]:
    """Tiles in each state, every state named."""
    found = pc.value_counts(table["state"]).to_pylist()
    counts = {each["values"]: each["counts"] for each in found}
    return {state.value: counts.get(state.value, 0) for state in TileState}


def shares(table: pa.Table) -> dict[str, float]:
    """The share in each state of the area that is asked for, every state named; 1 in all.

    Args:
        table: A ledger of `MEASURED`.
    """
    sums = table.group_by("state", use_threads=False).aggregate([("area_px", "sum")])
    areas = dict(zip(sums["state"].to_pylist(), sums["area_px_sum"].to_pylist(), strict=True))
    whole = sum(areas.values()) or 1.0  # a sliver may be too thin to have an area
    return {state.value: areas.get(state.value, 0.0) / whole for state in TileState}


def failures(table: pa.Table, most: int) -> list[dict[str, Any]]:
    """The lines of the first tiles that failed, `most` at the most, in the order of the grid."""
    failed: list[dict[str, Any]] = _in_state(table, TileState.FAILED).slice(0, most).to_pylist()
    return failed


def reasons(table: pa.Table) -> list[tuple[str, int]]:
    """Why tiles failed, the most frequent reason first, with its number of tiles."""
    return Counter(_in_state(table, TileState.FAILED)["reason"].to_pylist()).most_common()


def rejections(table: pa.Table) -> list[tuple[str, int]]:
    """Why features were left out, by the first of each tile, the most frequent reason first."""
    inferred = _in_state(table, TileState.INFERRED)
    return Counter(filter(None, inferred["reason"].to_pylist())).most_common()


def rejected(table: pa.Table) -> int:
    """Features of the model's answers that broke the contract, over all tiles."""
    return int(pc.sum(table["rejected"]).as_py() or 0)


def detections(table: pa.Table) -> int:
    """Detections that the model gave, before the merge, over all tiles."""
    return int(pc.sum(table["detections"]).as_py() or 0)


def measure(table: pa.Table, grid: Grid, roi: RegionOfInterest | None) -> pa.Table:
    """An image's ledger with the area that each tile answers for: a table of `MEASURED`.

    Args:
        table: Of `SCHEMA`.
        grid: The image's tiles.
        roi: What is asked for; None for the whole image.
    """
    # a line of no tile gets any area: `check_complete` refuses it
    areas = np.take(cells.areas(grid, roi), table["tile"].to_numpy(), mode="clip")
    outside = _is(table, TileState.OUTSIDE).to_numpy()
    areas[outside & (areas < _SPECK)] = 0.0
    return table.append_column(MEASURED.field("area_px"), pa.array(areas))


def check_complete(table: pa.Table, grid: Grid, roi: RegionOfInterest | None) -> None:
    """Prove that every pixel that is asked for is accounted for, once.

    Each tile has one line, none outside the region of interest answers for an area, and the areas
    add up to the region's inside the image, to 1e-9 of it.

    Args:
        table: The image's ledger, of `MEASURED`.
        grid: The image's tiles.
        roi: What is asked for; None for the whole image.

    Raises:
        RuntimeError: It is not so: a fault of Swath, never of its input.
    """
    if not np.array_equal(table["tile"].to_numpy(), np.arange(len(grid))):
        raise RuntimeError(f"The ledger has {len(table)} lines for {len(grid)} tiles.")
    outside = _in_state(table, TileState.OUTSIDE)
    left_out = outside.filter(pc.greater(outside["area_px"], 0.0))
    if len(left_out):
        raise RuntimeError(
            f"The ledger leaves out {pc.sum(left_out['area_px'])} px² that is asked for, as "
            f"outside the region of interest, in {len(left_out)} tiles "
            f"from {left_out['tile'][0]} on."
        )
    area, edge = cells.area_and_edge(grid, roi)
    total = table["area_px"].to_numpy().sum()
    if abs(total - area) > _TOLERANCE * max(area, edge):
        raise RuntimeError(f"The ledger's areas add up to {total} px² of {area} px² asked for.")


def _in_state(table: pa.Table, state: TileState) -> pa.Table:
    return table.filter(_is(table, state))


def _is(table: pa.Table, state: TileState) -> pa.ChunkedArray:
    return pc.equal(table["state"], state.value)
