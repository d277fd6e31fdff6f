"""The division of an image into regions of some minutes each, enough for all workers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray

from tasks.grid.tiles import Grid, Region, Span
from tasks.planning.throughput import Throughput

MAX_TILES = 10_000  # of a region: with 100 detections per tile it takes 945 MiB
MAX_ROUNDS = 100  # regions per worker: starting runs costs time, and the throughput is estimated
_MIN_SHARE = 0.2  # of a region's target time; a shorter run does not justify starting a machine
_PIXEL_SECONDS = 5e-8  # to fetch and decode a pixel again
_ACCEPTED_TIME = 1.1  # of a division that reads less, relative to the fastest division
_MAX_COMPARED = 200  # divisions, about: an image may have thousands of tile rows


@dataclass(frozen=True, slots=True)
class OverlapCost:
    """Pixels that are read twice where two regions meet.

    Attributes:
        rows: Rows of pixels between an upper and a lower region.
        columns: Columns of pixels between a left and a right region.
    """

    rows: int = 0
    columns: int = 0


@dataclass(frozen=True, slots=True)
class _Division:
    """A division of the grid into spans of tile rows and of tile columns.

    Attributes:
        rows: Spans of tile rows.
        columns: Spans of tile columns.
        regions: Combinations of the two that have a tile in the region of interest.
        read_twice: Pixels that are read twice.
        seconds: Estimated time of the whole image on all workers.
    """

    rows: list[Span]
    columns: list[Span]
    regions: int
    read_twice: int
    seconds: float


def region_count(tiles: int, throughput: Throughput, seconds: float) -> int:
    """Number of regions in which an image is finished soonest without wasting machines.

    It is a multiple of the number of workers, because the image waits for its last region.

    Args:
        tiles: Tiles in the region of interest.
        throughput: Expected seconds per tile, and number of workers.
        seconds: Target time of a region. Regions are shorter, down to a fifth of it, if more
            workers can then share the image; and longer if each worker would get more than
            `MAX_ROUNDS` of them.

    Returns:
        1 or more, and at most `tiles`.
    """
    work, minimum = tiles * throughput.tile_seconds, ceil(tiles / MAX_TILES)
    rounds = ceil(max(work / seconds, tiles / MAX_TILES) / throughput.workers)
    wanted = min(rounds, MAX_ROUNDS) * throughput.workers
    justified = int(min(work / (_MIN_SHARE * seconds), tiles))
    return max(1, minimum, min(wanted, justified))


def sized_regions(
    grid: Grid,
    in_roi: NDArray[np.bool_],
    throughput: Throughput,
    seconds: float,
    *,
    min_columns: int,
    overlap_cost: OverlapCost,
) -> list[Region]:
    """Divide a grid into regions that take about equally long.

    Of the divisions that take about as long as the fastest one, the one that reads the fewest
    pixels twice is chosen: blocks for a square image, columns for a flat one, and regions of the
    full width for an image that is stored in strips, which are read whole for every column.

    Args:
        grid: The tiles of the image.
        in_roi: (rows, columns) which tiles are in the region of interest, at least one.
        throughput: Expected seconds a tile, and workers.
        seconds: Target time of a region, as for `region_count`.
        min_columns: Least number of columns of regions, so that a region fits in memory.
        overlap_cost: Pixels that are read twice where regions meet.
    """
    count = region_count(int(in_roi.sum()), throughput, seconds)
    divider = _Divider(grid, in_roi, throughput, overlap_cost)
    divisions = list(divider.divisions(count, min_columns))
    enough = min(count, max(division.regions for division in divisions))
    divisions = [division for division in divisions if division.regions >= enough]
    limit = _ACCEPTED_TIME * min(division.seconds for division in divisions)
    fast = (division for division in divisions if division.seconds <= limit)
    best = min(fast, key=lambda division: (division.read_twice, division.seconds))
    return grid.regions_from_spans(best.rows, best.columns)


@dataclass(frozen=True)
class _Divider:
    """Estimates the divisions of a grid; the fields are arguments of `sized_regions`."""

    grid: Grid
    in_roi: NDArray[np.bool_]
    throughput: Throughput
    overlap_cost: OverlapCost

    @cached_property
    def _before(self) -> NDArray[np.int64]:
        """(rows + 1, columns + 1) tiles in the region of interest before each row and column."""
        return np.pad(self.in_roi.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))

    def divisions(self, count: int, min_columns: int) -> Iterator[_Division]:
        """Divisions into about `count` regions, with at least `min_columns` columns of regions."""
        down, across = self.in_roi.shape
        most = min(count, down)
        # the detections of regions side by side are published together, so they must fit in memory
        least = min(most, ceil(self._before[-1, -1] / MAX_TILES))
        for row_spans in range(most, max(1, least) - 1, -ceil(most / _MAX_COMPARED)):
            rows = _spans(self._before[:, -1], row_spans)
            columns = min(across, max(min_columns, ceil(count / row_spans)))
            yield self._division(rows, _spans(np.arange(across + 1), columns))

    def _division(self, rows: list[Span], columns: list[Span]) -> _Division:
        read_twice = (len(rows) - 1) * self.overlap_cost.rows * self.grid.width
        read_twice += (len(columns) - 1) * self.overlap_cost.columns * self.grid.height
        tiles = _tiles_between(_tiles_between(self._before, rows).T, columns)
        regions = int(np.count_nonzero(tiles))
        # the largest region, times the regions that each worker gets
        rounds = ceil(regions / self.throughput.workers)
        reading = _PIXEL_SECONDS * read_twice / tiles.size
        seconds = rounds * (tiles.max() * self.throughput.tile_seconds + reading)
        return _Division(rows, columns, regions, read_twice, float(seconds))


def _spans(before: NDArray[np.int64], count: int) -> list[Span]:
    """Spans (start, stop) of rows or columns with about equally many tiles.

    Args:
        before: (n + 1,) number of tiles before each row or column, and the total.
        count: Number of spans; fewer are returned if one row has more tiles than a span's share.
    """
    shares = before[-1] * np.arange(1, count) / count
    edges = {0, *np.searchsorted(before, shares).tolist(), len(before) - 1}
    return list(pairwise(sorted(edges)))


def _tiles_between(before: NDArray[np.int64], spans: list[Span]) -> NDArray[np.int64]:
    """Number of tiles in each span."""
    starts, stops = np.array(spans).T
    return np.asarray(before[stops] - before[starts])
