"""The grid of tiles over an image, and the regions that it is worked in (DESIGN §3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt
from rasterio.windows import Window

from tasks.errors import RequestError

Span = tuple[int, int]  # first, and one after the last
Bounds = NDArray[np.float64]
"""x_min, y_min, x_max, y_max in pixels of the full image, (4,); infinite where there is no end."""

EVERYWHERE: Bounds = np.array([-np.inf, -np.inf, np.inf, np.inf])


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of an image's grid.

    Attributes:
        index: Place in the grid, row by row, from 0.
        window: Pixels of the full image that it covers.
    """

    index: int
    window: Window


class Region(BaseModel):
    """A block of whole tile rows and columns of the grid: the work of one region run.

    Attributes:
        index: Place among the image's regions, row by row, from 0.
        of: Regions that the image has.
        x: First pixel of the full image that it covers, in x.
        y: The same in y.
        width: Pixels that it covers in x.
        height: The same in y.
        row_start: First tile row.
        row_stop: Tile row after the last.
        column_start: First tile column.
        column_stop: Tile column after the last.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: NonNegativeInt
    of: PositiveInt
    x: NonNegativeInt
    y: NonNegativeInt
    width: PositiveInt
    height: PositiveInt
    row_start: NonNegativeInt
    row_stop: NonNegativeInt
    column_start: NonNegativeInt
    column_stop: NonNegativeInt

    def __len__(self) -> int:
        """Tiles in the region."""
        return (self.row_stop - self.row_start) * (self.column_stop - self.column_start)

    @property
    def number(self) -> int:
        """Place among the image's regions, from 1, as people count."""
        return self.index + 1

    @property
    def name(self) -> str:
        """What people find it by: its number, first pixel and size."""
        place = f"{self.x},{self.y} {self.width}×{self.height}"
        return f"region {self.number}/{self.of} · {place}"


def number(extent: int, tile: int, overlap: int) -> int:
    """How many tiles cover an axis."""
    return 1 if extent <= tile else ceil((extent - overlap) / (tile - overlap))


def positions(extent: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles along an axis, so that they cover it to its last pixel.

    Args:
        extent: Pixels of the axis.
        tile: Pixels of a tile along it.
        overlap: Pixels that neighbours share at least; widened evenly so that every tile is full.
    """
    count = number(extent, tile, overlap)
    if count == 1:
        return [0]
    return [round(i * (extent - tile) / (count - 1)) for i in range(count)]


@dataclass(frozen=True)
class Grid:
    """The tiles of an image: one size, in rows and columns, over every pixel.

    Attributes:
        width: Pixels of the image in x.
        height: Pixels of the image in y.
        tile_size: Pixels of a tile's side; a smaller image has one tile of its own size.
        overlap: Pixels that neighbouring tiles share at least.
    """

    width: int
    height: int
    tile_size: int
    overlap: int

    def __post_init__(self) -> None:
        """Refuse a grid that cannot cover."""
        if self.width < 1 or self.height < 1:
            raise RequestError(f"An image of {self.width} × {self.height} pixels has no tiles.")
        if not 0 <= self.overlap < self.tile_size:
            raise RequestError(
                f"imageProcessorTileOverlap {self.overlap} must be at least 0 and below "
                f"imageProcessorTileSize {self.tile_size}."
            )

    @cached_property
    def columns(self) -> list[int]:
        """First pixel in x of each tile column."""
        return positions(self.width, self.tile_size, self.overlap)

    @cached_property
    def rows(self) -> list[int]:
        """First pixel in y of each tile row."""
        return positions(self.height, self.tile_size, self.overlap)

    @property
    def tile_width(self) -> int:
        """Pixels of every tile in x."""
        return min(self.tile_size, self.width)

    @property
    def tile_height(self) -> int:
        """Pixels of every tile in y."""
        return min(self.tile_size, self.height)

    def __len__(self) -> int:
        """Tiles in the grid."""
        down = number(self.height, self.tile_size, self.overlap)
        return down * number(self.width, self.tile_size, self.overlap)

    def tile(self, row: int, column: int) -> Tile:
        """The tile at a row and column of the grid."""
        window = Window(self.columns[column], self.rows[row], self.tile_width, self.tile_height)
        return Tile(row * len(self.columns) + column, window)

    def windows(self, tiles: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n, 4) x_min, y_min, x_max, y_max of n tiles, in pixels of the full image."""
        row, column = np.divmod(tiles, len(self.columns))
        x, y = np.asarray(self.columns)[column], np.asarray(self.rows)[row]
        corners = np.stack([x, y, x + self.tile_width, y + self.tile_height], axis=1)
        return corners.astype(np.float64)

    def tiles(self, region: Region) -> Iterator[Tile]:
        """The tiles of a region, row by row."""
        for row in range(region.row_start, region.row_stop):
            for column in range(region.column_start, region.column_stop):
                yield self.tile(row, column)

    def interior(self, region: Region) -> Bounds:
        """Where no tile but the region's looks; without an end where the region has the last."""
        columns, rows = self.columns, self.rows
        return np.array(
            [
                columns[region.column_start - 1] + self.tile_width if region.column_start else -inf,
                rows[region.row_start - 1] + self.tile_height if region.row_start else -inf,
                columns[region.column_stop] if region.column_stop < len(columns) else inf,
                rows[region.row_stop] if region.row_stop < len(rows) else inf,
            ]
        )

    def regions(self, size: int, widest: int | None = None) -> list[Region]:
        """The grid in regions of whole tile rows and columns.

        Args:
            size: Pixels of a region's height, about; and of its width, where `widest` is left out.
            widest: Pixels that a region's width may have, though never less than a tile's; it is
                the image's where it can be, for what lies at the edge of two is read twice.
        """
        rows = _runs(self.rows, _near(self.rows, self.tile_height, size))
        across = (
            _near(self.columns, self.tile_width, size)
            if widest is None
            else self.fewest_columns(widest)
        )
        return self.cut(rows, _runs(self.columns, across))

    def cut(self, rows: Sequence[Span], columns: Sequence[Span]) -> list[Region]:
        """The grid in regions where runs of tile rows and of tile columns meet."""
        return [
            self._region(index, len(rows) * len(columns), *span)
            for index, span in enumerate(product(rows, columns))
        ]

    def fewest_columns(self, widest: int) -> int:
        """In how few columns of regions none is wider than so many pixels, or than a tile."""
        return _within(self.columns, self.tile_width, widest)

    def _region(self, index: int, of: int, rows: Span, columns: Span) -> Region:
        x, y = self.columns[columns[0]], self.rows[rows[0]]
        return Region(
            index=index,
            of=of,
            x=x,
            y=y,
            width=self.columns[columns[1] - 1] + self.tile_width - x,
            height=self.rows[rows[1] - 1] + self.tile_height - y,
            row_start=rows[0],
            row_stop=rows[1],
            column_start=columns[0],
            column_stop=columns[1],
        )


def _near(offsets: list[int], tile: int, size: int) -> int:
    """In how many runs to part tiles for each to span about `size` pixels."""
    return min(len(offsets), max(1, round((offsets[-1] + tile) / size)))


def _within(offsets: list[int], tile: int, size: int) -> int:
    """In how few runs to part tiles for each to span at most `size` pixels, or be one tile."""
    few = max(1, ceil((offsets[-1] + tile) / size))
    counts = range(min(few, len(offsets)), len(offsets))
    return next((count for count in counts if _longest(offsets, tile, count) <= size), len(offsets))


def _longest(offsets: list[int], tile: int, count: int) -> int:
    return max(offsets[stop - 1] + tile - offsets[start] for start, stop in _runs(offsets, count))


def _runs(offsets: list[int], count: int) -> list[Span]:
    """Tiles in runs (start, stop), as equal as can be."""
    edges = [len(offsets) * i // count for i in range(count + 1)]
    return list(pairwise(edges))
