"""The throughput of an image: seconds per tile, and regions that run at the same time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tasks.request import EndpointType

TILE_SECONDS = 0.1
"""Assumed seconds per tile for a model that has not been timed."""

_CALLED_TILE_SECONDS = 0.02  # the same for an endpoint, which many calls at a time share
_IN_PROCESS = {EndpointType.ONNX, EndpointType.BUILTIN}


@dataclass(frozen=True, slots=True)
class Throughput:
    """The expected throughput of an image's regions.

    Attributes:
        tile_seconds: Seconds that a region's run takes for each tile that it sends to the model.
        workers: Regions that run at a time.
    """

    tile_seconds: float = TILE_SECONDS
    workers: int = 1


@dataclass(frozen=True, slots=True)
class RegionTiming:
    """The timing of a region's run; all values are above 0.

    Attributes:
        tiles: Tiles that the model answered.
        tile_pixels: Pixels of each tile.
        work_seconds: Seconds from reading the first tile to the last answer.
    """

    tiles: float
    tile_pixels: float
    work_seconds: float


def untimed_tile_seconds(endpoint: EndpointType) -> float:
    """Seconds per tile that regions are sized for as long as their model has not been timed.

    Regions of an endpoint are the larger ones: each run that is started costs more than a worker
    gains by it, since further workers make no endpoint faster.
    """
    return TILE_SECONDS if endpoint in _IN_PROCESS else _CALLED_TILE_SECONDS


def tile_seconds(timings: Iterable[RegionTiming], pixels: int, untimed: float) -> float:
    """Seconds per tile of a given size: the median over all tiles of the timed regions.

    Regions are weighted by their tiles: short ones, dominated by their first calls, count little.

    Args:
        timings: Earlier regions of the same model.
        pixels: Pixels of a tile.
        untimed: What to return without any.
    """
    costs = sorted(
        (timing.work_seconds / timing.tiles * pixels / timing.tile_pixels, timing.tiles)
        for timing in timings
    )
    remaining = sum(tiles for _, tiles in costs) / 2
    for cost, tiles in costs:
        remaining -= tiles
        if remaining <= 0:
            return cost
    return untimed
