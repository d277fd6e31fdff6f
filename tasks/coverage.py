"""The ledger that proves every pixel was looked at: each tile in exactly one state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa
import pyarrow.compute as pc

from tasks.tiling import Tile

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
    ]
)


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
    """

    tile: Tile
    state: TileState
    reason: str = ""
    attempts: int = 0
    rejected: int = 0


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
            "reason": " ".join(record.reason.split()),
            "attempts": record.attempts,
            "rejected": record.rejected,
        }
        for record in sorted(records, key=lambda record: record.tile.index)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def concatenate(ledgers: Sequence[pa.Table]) -> pa.Table:
    """The regions' ledgers as the image's, in the order of the grid."""
    return pa.concat_tables([SCHEMA.empty_table(), *ledgers]).sort_by("tile")


def count(table: pa.Table) -> dict[str, int]:
    """Tiles in each state, every state named."""
    counts = Counter(table["state"].to_pylist())
    return {state.value: counts[state.value] for state in TileState}


def reasons(table: pa.Table) -> list[tuple[str, int]]:
    """Why tiles failed, the most frequent reason first, with its number of tiles."""
    failed = table.filter(pc.equal(table["state"], TileState.FAILED.value))
    return Counter(failed["reason"].to_pylist()).most_common()


def rejections(table: pa.Table) -> list[tuple[str, int]]:
    """Why features were left out, by the first of each tile, the most frequent reason first."""
    inferred = table.filter(pc.equal(table["state"], TileState.INFERRED.value))
    return Counter(filter(None, inferred["reason"].to_pylist())).most_common()


def check_complete(table: pa.Table, tiles: int) -> None:
    """Insist that each tile of a grid has exactly one line.

    Raises:
        RuntimeError: A tile is missing or counted twice: a fault of Swath, never of its input.
    """
    if table["tile"].to_pylist() != list(range(tiles)):
        raise RuntimeError(f"The ledger has {len(table)} lines for {tiles} tiles.")


def rejected(table: pa.Table) -> int:
    """Features of the model's answers that broke the contract, over all tiles."""
    return int(pc.sum(table["rejected"]).as_py() or 0)
