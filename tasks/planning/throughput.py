"""How fast an image can be worked: what a tile takes, and how many regions run at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

TILE_SECONDS = 0.1
"""What a tile takes where nothing is known of its model."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """How fast an image can be worked.

    Attributes:
        tile_seconds: Seconds that a region's run takes for each tile that it asks about.
        workers: Regions that run at a time.
    """

    tile_seconds: float = TILE_SECONDS
    workers: int = 1


@dataclass(frozen=True, slots=True)
class RegionTiming:
    """What a region's run took, all of it above 0.

    Attributes:
        tiles: Tiles that the model answered for.
        tile_pixels: Pixels of each.
        work_seconds: From the first that was read to the last answer.
    """

    tiles: float
    tile_pixels: float
    work_seconds: float


def tile_seconds(works: Iterable[RegionTiming], pixels: int) -> float:
    """What a tile of so many pixels takes: the median over all tiles of a few regions.

    So a region of a few tiles, whose first ones take longest, says little.
    """
    costs = sorted(
        (work.work_seconds / work.tiles * pixels / work.tile_pixels, work.tiles) for work in works
    )
    half = sum(tiles for _, tiles in costs) / 2
    for cost, tiles in costs:
        half -= tiles
        if half <= 0:
            return cost
    return TILE_SECONDS
