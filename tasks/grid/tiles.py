"""The grid of overlapping tiles over an image, and regions: blocks of tile rows and columns.

Along an axis of W pixels, tiles of T pixels that overlap by at least O pixels are
n = ceil((W − O) / (T − O)) in number and begin at round(i · (W − T) / (n − 1)), i = 0 … n − 1.
"""

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

Span = tuple[int, int]  # first tile row or column, and one after the last
Bounds = NDArray[np.float64]
"""(4,) x_min, y_min, x_max, y_max in pixels of the full image; a side may be infinite."""

EVERYWHERE: Bounds = np.array([-np.inf, -np.inf, np.inf, np.inf])


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile of an image's grid.

    Attributes:
        index: Position in the grid, row by row, from 0.
        window: The pixels of the full image that it covers.
    """

    index: int
    window: Window


class Region(BaseModel):
    """A block of whole tile rows and columns of the grid: the work of one region run.

    Attributes:
        index: Position among the image's regions, row by row, from 0.
        of: Number of regions of the image.
        across: Number of regions side by side; 1 if each is as wide as the image.
        x: First column of pixels of the full image that it covers.
        y: First row of pixels of the full image that it covers.
        width: Pixels in x.
        height: Pixels in y.
        row_start: First tile row.
        row_stop: One after the last tile row.
        column_start: First tile column.
        column_stop: One after the last tile column.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    index: NonNegativeInt
    of: PositiveInt
    across: PositiveInt = 1
    x: NonNegativeInt
    y: NonNegativeInt
    width: PositiveInt
    height: PositiveInt
    row_start: NonNegativeInt
    row_stop: NonNegativeInt
    column_start: NonNegativeInt
    column_stop: NonNegativeInt

    def __len__(self) -> int:
        """Number of tiles in the region."""
        return (self.row_stop - self.row_start) * (self.column_stop - self.column_start)

    @property
    def number(self) -> int:
        """Position among the image's regions, counted from 1."""
        return self.index + 1

    @property
    def block(self) -> str:
        """Its tile rows and columns: the same in every division of the image that has the block."""
        rows = f"{self.row_start}-{self.row_stop}"
        return f"{rows}x{self.column_start}-{self.column_stop}"

    @property
    def name(self) -> str:
        """Its number and pixels, as shown to users: columns only if it has not all of them."""
        rows = f"rows {self.y}-{self.y + self.height - 1}"
        columns = f", columns {self.x}-{self.x + self.width - 1}" if self.across > 1 else ""
        return f"region {self.number} of {self.of}, {rows}{columns}"


def tile_count(extent: int, tile: int, overlap: int) -> int:
    """Number of tiles that cover an axis of `extent` pixels."""
    return 1 if extent <= tile else ceil((extent - overlap) / (tile - overlap))


def positions(extent: int, tile: int, overlap: int) -> list[int]:
    """First pixel of each tile along an axis; the last tile ends at the last pixel.

    Args:
        extent: Pixels of the axis.
        tile: Pixels of a tile along the axis.
        overlap: Least number of pixels that neighbours share; widened evenly so that all tiles have
            the full size.
    """
    count = tile_count(extent, tile, overlap)
    if count == 1:
        return [0]
    return [round(i * (extent - tile) / (count - 1)) for i in range(count)]


@dataclass(frozen=True)
class Grid:
    """The tiles of an image: of one size, in rows and columns, covering every pixel.

    Attributes:
        width: Pixels of the image in x.
        height: Pixels of the image in y.
        tile_size: Pixels of a tile's side; a smaller image has one tile of the image's size.
        overlap: Least number of pixels that neighbouring tiles share.
    """

    width: int
    height: int
    tile_size: int
    overlap: int

    def __post_init__(self) -> None:
        """Refuse a grid that cannot cover the image."""
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
        """Width of every tile in pixels."""
        return min(self.tile_size, self.width)

    @property
    def tile_height(self) -> int:
        """Height of every tile in pixels."""
        return min(self.tile_size, self.height)

    def __len__(self) -> int:
        """Number of tiles in the grid."""
        down = tile_count(self.height, self.tile_size, self.overlap)
        return down * tile_count(self.width, self.tile_size, self.overlap)

    def tile(self, row: int, column: int) -> Tile:
        """The tile at a row and column of the grid."""
        window = Window(self.columns[column], self.rows[row], self.tile_width, self.tile_height)
        return Tile(row * len(self.columns) + column, window)

    def windows(self, tiles: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n, 4) x_min, y_min, x_max, y_max of tiles, in pixels of the full image.

        Args:
            tiles: (n,) indices of tiles.
        """
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
        """The area that only this region's tiles cover; infinite at the image's edges."""
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
        """Divide the grid into regions of about equal size.

        Args:
            size: Approximate height of a region in pixels; without `widest`, also its width.
            widest: Greatest width of a region in pixels, but at least one tile. Regions are as wide
                as it allows, because pixels in the overlap of two regions are read twice.
        """
        rows = _spans(self.rows, _count_of_size(self.rows, self.tile_height, size))
        across = (
            _count_of_size(self.columns, self.tile_width, size)
            if widest is None
            else self.min_region_columns(widest)
        )
        return self.regions_from_spans(rows, _spans(self.columns, across))

    def regions_from_spans(self, rows: Sequence[Span], columns: Sequence[Span]) -> list[Region]:
        """One region for each combination of a span of tile rows and a span of tile columns."""
        return [
            self._region(index, len(rows) * len(columns), len(columns), *span)
            for index, span in enumerate(product(rows, columns))
        ]

    def min_region_columns(self, widest: int) -> int:
        """Least number of columns of regions that are each at most `widest` pixels or one tile."""
        return _least_count(self.columns, self.tile_width, widest)

    def _region(self, index: int, of: int, across: int, rows: Span, columns: Span) -> Region:
        x, y = self.columns[columns[0]], self.rows[rows[0]]
        return Region(
            index=index,
            of=of,
            across=across,
            x=x,
            y=y,
            width=self.columns[columns[1] - 1] + self.tile_width - x,
            height=self.rows[rows[1] - 1] + self.tile_height - y,
            row_start=rows[0],
            row_stop=rows[1],
            column_start=columns[0],
            column_stop=columns[1],
        )


def _count_of_size(offsets: list[int], tile: int, size: int) -> int:
    """Number of spans of tiles that each cover about `size` pixels."""
    return min(len(offsets), max(1, round((offsets[-1] + tile) / size)))


def _least_count(offsets: list[int], tile: int, size: int) -> int:
    """Least number of spans of tiles that each cover at most `size` pixels, or are one tile."""
    lower_bound = max(1, ceil((offsets[-1] + tile) / size))
    counts = range(min(lower_bound, len(offsets)), len(offsets))
    fitting = (count for count in counts if _longest_span(offsets, tile, count) <= size)
    return next(fitting, len(offsets))


def _longest_span(offsets: list[int], tile: int, count: int) -> int:
    """Pixels of the longest of `count` spans."""
    return max(offsets[stop - 1] + tile - offsets[start] for start, stop in _spans(offsets, count))


def _spans(offsets: list[int], count: int) -> list[Span]:
    """Tiles divided into `count` spans (start, stop) of nearly equal length."""
    edges = [len(offsets) * i // count for i in range(count + 1)]
    return list(pairwise(edges))
