"""The regions of an image as a Markdown table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tasks.grid.tiles import Region
from tasks.results.coverage import TileState

_MAX_ROWS = 200


@dataclass(frozen=True)
class RegionRow:
    """A region, and what became of it.

    Attributes:
        region: The region.
        tiles: Number of tiles in each state.
        detections: Number of detections before the merge.
        url: Address of its run, or None.
        state: State of its run, or None.
        seconds: How long its run took, or None.
    """

    region: Region
    tiles: Mapping[str, int]
    detections: int
    url: str | None = None
    state: str | None = None
    seconds: float | None = None

    @property
    def failed(self) -> int:
        """Number of tiles that failed."""
        return self.tiles[TileState.FAILED]

    @property
    def not_sent(self) -> int:
        """Number of tiles that are blank, or outside the region of interest."""
        return self.tiles[TileState.BLANK] + self.tiles[TileState.OUTSIDE]

    @property
    def name(self) -> str:
        """Its number, from 1, as a link to its run."""
        number = str(self.region.index + 1)
        return number if self.url is None else f"[{number}]({self.url})"

    @property
    def tiles_per_second(self) -> float | None:
        """Tiles sent to the model in a second, or None."""
        asked = self.tiles[TileState.INFERRED] + self.failed
        return asked / self.seconds if asked and self.seconds else None


_COLUMNS: Mapping[str, Callable[[RegionRow], str]] = {
    "region": lambda row: row.name,
    "state": lambda row: "" if row.state in (None, "Completed") else str(row.state),
    "failed<br>(tiles)": lambda row: _number(row.failed),
    "inferred<br>(tiles)": lambda row: _number(row.tiles[TileState.INFERRED]),
    "not sent<br>(tiles)": lambda row: _number(row.not_sent),
    "columns<br>(px)": lambda row: _span(row.region.x, row.region.width),
    "rows<br>(px)": lambda row: _span(row.region.y, row.region.height),
    "detections": lambda row: _number(row.detections),
    "duration<br>(s)": lambda row: _decimal(row.seconds),
    "rate<br>(tiles/s)": lambda row: _decimal(row.tiles_per_second),
}
_LEFT_ALIGNED = ("region", "state")
_PLACES = ("columns<br>(px)", "rows<br>(px)")


def region_table(rows: Sequence[RegionRow]) -> str:
    """The page of an image's regions: those with the most failed tiles first, then by number.

    Columns that would be empty are left out, and the columns or rows of pixels if all regions have
    the same.

    Args:
        rows: All regions.
    """
    ordered = sorted(rows, key=lambda row: (-row.failed, row.region.index))
    listed = ordered[:_MAX_ROWS]
    columns = {
        head: cells
        for head, cell in _COLUMNS.items()
        if any(cells := [cell(row) for row in listed])
        and (head not in _PLACES or len(set(cells)) > 1)
    }
    aligned = [" --- |" if head in _LEFT_ALIGNED else " ---: |" for head in columns]
    lines = [
        "# Regions",
        "",
        *["Detections are counted before the merge.", ""] * ("detections" in columns),
        f"| {' | '.join(columns)} |",
        f"|{''.join(aligned)}",
        *(f"| {' | '.join(cells)} |" for cells in zip(*columns.values(), strict=True)),
    ]
    if left_out := ordered[_MAX_ROWS:]:
        failed = sum(row.failed for row in left_out)
        lines += ["", f"{len(left_out):,} more regions with {failed:,} failed tiles."]
    return "\n".join(lines)


def _number(number: int) -> str:
    """A number as text, which is empty for 0."""
    return f"{number:,}" if number else ""


def _decimal(number: float | None) -> str:
    return "" if number is None else f"{number:,.1f}"


def _span(start: int, length: int) -> str:
    return f"{start}-{start + length - 1}"
