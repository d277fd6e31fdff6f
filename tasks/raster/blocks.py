"""The blocks of a raster, in which it is painted, stored and published."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from rasterio.windows import Window

from tasks.grid.tiles import Grid, Region, Span, Tile

BLOCK = 512
"""Pixels of a block's side."""


@dataclass(frozen=True)
class BlockGrid:
    """The blocks of an image's raster, each with the tiles that have a share in it.

    Attributes:
        grid: The tiles of the image.
    """

    grid: Grid

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns of blocks."""
        return -(-self.grid.height // BLOCK), -(-self.grid.width // BLOCK)

    def window(self, row: int, column: int) -> Window:
        """The pixels of a block inside the image."""
        x, y = column * BLOCK, row * BLOCK
        width, height = min(BLOCK, self.grid.width - x), min(BLOCK, self.grid.height - y)
        return Window(x, y, width, height)

    def tiles(self, row: int, column: int) -> Iterator[Tile]:
        """The tiles that overlap a block, in the order of the grid."""
        for tile_row in range(*self._tile_rows[row]):
            for tile_column in range(*self._tile_columns[column]):
                yield self.grid.tile(tile_row, tile_column)

    def inside(self, region: Region) -> tuple[Span, Span]:
        """Rows and columns of the blocks that only tiles of a region overlap.

        Returns:
            The first row and one after the last, and so the columns; equal if there are none.
        """
        return (
            _inside(self._tile_rows, (region.row_start, region.row_stop)),
            _inside(self._tile_columns, (region.column_start, region.column_stop)),
        )

    @cached_property
    def _tile_rows(self) -> list[Span]:
        return _spans(self.grid.rows, self.grid.tile_height, self.shape[0])

    @cached_property
    def _tile_columns(self) -> list[Span]:
        return _spans(self.grid.columns, self.grid.tile_width, self.shape[1])


def _spans(starts: Sequence[int], tile: int, count: int) -> list[Span]:
    """Of each block along an axis, the first tile that overlaps it and one after the last."""
    ends = [start + tile for start in starts]
    return [
        (bisect_right(ends, block * BLOCK), bisect_left(starts, (block + 1) * BLOCK))
        for block in range(count)
    ]


def _inside(spans: Sequence[Span], tiles: Span) -> Span:
    """The first of the blocks along an axis that have only some tiles, and one after the last."""
    inside = [at for at, span in enumerate(spans) if tiles[0] <= span[0] and span[1] <= tiles[1]]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)
