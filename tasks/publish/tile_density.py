"""Which features the tiles of a web map have at each zoom: those with the highest scores."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

from tasks.publish.features import Features

MOST = 2
"""Features of a cell, except at the last zoom, where every feature is."""

CELLS = 4
"""A tile has 2^CELLS × 2^CELLS cells. With a limit of the tile alone, the map would be denser where
a tile has fewer features, and show the edges of tiles."""

NEVER = 255
"""The zoom of features that have no place on a Web Mercator map."""

NORTH = 85.0511287798066
"""The latitude where a Web Mercator map ends, as it does in the south."""

_BITS = 31  # of a coordinate: a fraction of the world's width
_MOST_CANDIDATES = 1 << 18  # above those that are kept, before they are reduced
_CANDIDATE = np.dtype([("row", np.uint32), ("x", np.uint32), ("y", np.uint32), ("score", "f4")])


class FeaturePlaces:
    """The places and scores of those features that may be shown below the last zoom.

    It has a byte for each feature, and 16 for each of the best ones of every cell.
    """

    def __init__(self, last: int) -> None:
        """Begin without features; `last` is the last zoom."""
        self._last = last
        self._zooms: list[NDArray[np.uint8]] = []
        self._count = 0
        self._kept = np.empty(0, _CANDIDATE)
        self._candidates: list[NDArray[np.void]] = []
        self._extents: list[NDArray[np.float64]] = []

    def add(self, features: Features, scores: NDArray[np.float64]) -> None:
        """Add features with their scores (n,)."""
        self._extents.append(shapely.total_bounds(features.geometry))
        longitude, latitude = features.centers.T
        on_map = np.abs(latitude) <= NORTH  # not of NaN
        self._zooms.append(np.where(on_map, np.uint8(self._last), np.uint8(NEVER)))
        found = np.empty(on_map.sum(), _CANDIDATE)
        found["row"] = self._count + np.flatnonzero(on_map)
        sine = np.sin(np.radians(latitude[on_map]))
        x, y = longitude[on_map] / 360 + 0.5, 0.5 - np.arctanh(sine) / (2 * np.pi)
        for axis, fraction in (("x", x), ("y", y)):
            found[axis] = np.clip(fraction * 2**_BITS, 0, 2**_BITS - 1)
        found["score"] = scores[on_map]
        self._count += len(features)
        self._candidates.append(found)
        if sum(map(len, self._candidates)) > _MOST_CANDIDATES:
            self._reduce()

    def _reduce(self) -> None:
        """Keep the best candidates of each cell of the zoom before the last."""
        found = np.concatenate([self._kept, *self._candidates])
        self._candidates.clear()
        self._kept = found[_best(found, self._last - 1)] if self._last else found[:0]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """West, south, east, north of all features on the map; the whole map if there are none."""
        limits = np.array([-180, -NORTH, 180, NORTH])
        bounds = np.array(self._extents).reshape(-1, 4)
        bounds = bounds[~np.isnan(bounds[:, 0])]
        if not len(bounds):
            west, south, east, north = limits.tolist()
        else:
            low, high = bounds[:, :2].min(axis=0), bounds[:, 2:].max(axis=0)
            west, south, east, north = np.clip(
                [*low, *high], np.tile(limits[:2], 2), np.tile(limits[2:], 2)
            ).tolist()
        return west, south, east, north

    def first_zooms(self) -> NDArray[np.uint8]:
        """(n,) the lowest zoom at which each feature is shown; it is at all higher ones too."""
        self._reduce()
        zooms = np.concatenate([np.empty(0, np.uint8), *self._zooms])
        shown = self._kept
        for zoom in reversed(range(self._last)):
            shown = shown[_best(shown, zoom)]
            zooms[shown["row"]] = zoom
        return zooms


def _best(candidates: NDArray[np.void], zoom: int) -> NDArray[np.bool_]:
    """(n,) which candidates are among the best `MOST` of their cell; of equal ones, the first."""
    away = np.uint32(_BITS - zoom - CELLS)
    x, y = (candidates[axis] >> away for axis in "xy")
    cells = x.astype(np.uint64) << np.uint64(32) | y
    order = np.lexsort([-candidates["score"], cells])
    cells = cells[order]
    starts = np.flatnonzero(np.append(True, cells[1:] != cells[:-1])) if len(cells) else order
    rank = np.arange(len(cells)) - np.repeat(starts, np.diff(starts, append=len(cells)))
    best = np.zeros(len(cells), bool)
    best[order[rank < MOST]] = True
    return best
