"""How many regions an image is cut into, and where: minutes of work each, for all workers."""

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

MOST_TILES = 10_000  # of a region: at a hundred detections each it takes 945 MiB
MOST_ROUNDS = (
    100  # of regions a worker: a throughput is a guess, and each region a run to be started
)
_LEAST = 0.2  # of the time that a region should take; less does not pay for a machine's start
_READING = 5e-8  # seconds that a pixel takes to be fetched and decoded once more
_NO_SLOWER = 1.1  # what a cut that reads less twice may take of the time of the quickest one
_TRIED = 200  # cuts, about: an image has up to a thousand rows of tiles


@dataclass(frozen=True, slots=True)
class OverlapCost:
    """What is read twice where two regions meet.

    Attributes:
        rows: Rows of pixels, between an upper and a lower one.
        columns: Columns of pixels, between a left and a right one.
    """

    rows: int = 0
    columns: int = 0


@dataclass(frozen=True, slots=True)
class _Cut:
    """Runs of tile rows and of tile columns.

    Attributes:
        rows: Those of rows.
        columns: Those of columns.
        regions: Where they meet, and something is asked for.
        twice: Pixels that are read twice.
        seconds: That all workers take.
    """

    rows: list[Span]
    columns: list[Span]
    regions: int
    twice: int
    seconds: float


def regions_worth(tiles: int, throughput: Throughput, seconds: float) -> int:
    """In how many regions an image is worked soonest without wasting machines on it.

    Workers that all have a region all have the same number of them, as the last one is waited for.

    Args:
        tiles: Tiles that are asked for.
        throughput: How fast they are worked.
        seconds: That a region should take at most, about; if there are workers for it, it takes
            less, but a fifth of that at least. It takes more where each worker would have over
            `MOST_ROUNDS` of them.

    Returns:
        1 or more, and no more than there are tiles.
    """
    work, few = tiles * throughput.tile_seconds, ceil(tiles / MOST_TILES)
    rounds = min(ceil(max(work / seconds, tiles / MOST_TILES) / throughput.workers), MOST_ROUNDS)
    paying = int(min(work / (_LEAST * seconds), tiles))
    return max(1, few, min(rounds * throughput.workers, paying))


def sized_regions(
    grid: Grid,
    asked: NDArray[np.bool_],
    throughput: Throughput,
    seconds: float,
    *,
    fewest: int,
    seams: OverlapCost,
) -> list[Region]:
    """A grid in regions that are worth a run each, and take about as long as each other.

    Of the cuts that take all workers about as long as the quickest one, it is that of which the
    least is read twice: a square image in blocks, but a flat one in columns, and one that is stored
    in strips, which every column would read whole, in bands.

    Args:
        grid: The image's tiles.
        asked: (rows, columns) which of them are asked for, one at least.
        throughput: How fast they are worked.
        seconds: That a region should take, as `regions_worth` has it.
        fewest: Columns of regions that memory asks for, at least.
        seams: What is read twice where regions meet.
    """
    count = regions_worth(int(asked.sum()), throughput, seconds)
    cuts = list(_Cutter(grid, asked, throughput, seams).cuts(count, fewest))
    enough = min(count, max(cut.regions for cut in cuts))
    cuts = [cut for cut in cuts if cut.regions >= enough]
    soon = _NO_SLOWER * min(cut.seconds for cut in cuts)
    good = (cut for cut in cuts if cut.seconds <= soon)
    best = min(good, key=lambda cut: (cut.twice, cut.seconds))
    return grid.cut(best.rows, best.columns)


@dataclass(frozen=True)
class _Cutter:
    """Knows what a cut of a grid takes; its fields are `sized_regions`'s."""

    grid: Grid
    asked: NDArray[np.bool_]
    throughput: Throughput
    seams: OverlapCost

    @cached_property
    def _before(self) -> NDArray[np.int64]:
        """(rows + 1, columns + 1) tiles that are asked for above and left of each."""
        return np.pad(self.asked.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))

    def cuts(self, count: int, fewest: int) -> Iterator[_Cut]:
        """Cuts into about so many regions, and no fewer columns than `fewest`."""
        down, across = self.asked.shape
        most = min(count, down)
        # what regions side by side found is published together, so it must fit in memory too
        least = min(most, ceil(self._before[-1, -1] / MOST_TILES))
        for bands in range(most, max(1, least) - 1, -ceil(most / _TRIED)):
            rows = _runs(self._before[:, -1], bands)
            columns = _runs(np.arange(across + 1), min(across, max(fewest, ceil(count / bands))))
            twice = (len(rows) - 1) * self.seams.rows * self.grid.width
            twice += (len(columns) - 1) * self.seams.columns * self.grid.height
            tiles = _between(_between(self._before, rows).T, columns)
            regions = int(np.count_nonzero(tiles))
            # the largest region, as often as a worker has one
            rounds, reading = ceil(regions / self.throughput.workers), _READING * twice / tiles.size
            seconds = rounds * (tiles.max() * self.throughput.tile_seconds + reading)
            yield _Cut(rows, columns, regions, twice, float(seconds))


def _runs(before: NDArray[np.int64], count: int) -> list[Span]:
    """Rows or columns in runs (start, stop) that ask for about as many tiles as each other.

    Args:
        before: (n + 1,) tiles asked for before each row or column, and in all.
        count: How many runs; they are fewer where single rows ask for more than a run's share.
    """
    shares = before[-1] * np.arange(1, count) / count
    edges = {0, *np.searchsorted(before, shares).tolist(), len(before) - 1}
    return list(pairwise(sorted(edges)))


def _between(before: NDArray[np.int64], spans: list[Span]) -> NDArray[np.int64]:
    """How many tiles each run asks for."""
    starts, stops = np.array(spans).T
    return np.asarray(before[stops] - before[starts])
