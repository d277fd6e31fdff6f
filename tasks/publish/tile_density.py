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

_NORTH = 85.0511287798066  # latitude where a Web Mercator map ends, as it does in the south
_BITS = 31  # of a coordinate: a fraction of the world's width


class FeaturePlaces:
    """The places and scores of an image's features: 12 bytes for each."""

    def __init__(self) -> None:
        """Begin without features."""
        self._x: list[NDArray[np.uint32]] = []
        self._y: list[NDArray[np.uint32]] = []
        self._scores: list[NDArray[np.float32]] = []
        self._extents: list[NDArray[np.float64]] = []

    def add(self, features: Features, scores: NDArray[np.float64]) -> None:
        """Add features with their scores (n,)."""
        self._extents.append(shapely.total_bounds(features.geometry))
        longitude, latitude = features.centers.T
        on_map = np.abs(latitude) <= _NORTH  # not of NaN
        sine = np.sin(np.radians(np.where(on_map, latitude, 0)))
        x = np.where(on_map, longitude, 0) / 360 + 0.5
        y = 0.5 - np.arctanh(sine) / (2 * np.pi)
        for kept, fraction in ((self._x, x), (self._y, y)):
            cells = np.clip(fraction * 2**_BITS, 0, 2**_BITS - 1)
            kept.append(cells.astype(np.uint32))
        self._scores.append(np.where(on_map, scores, np.nan).astype(np.float32))

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """West, south, east, north of all features on the map; the whole map if there are none."""
        limits = np.array([-180, -_NORTH, 180, _NORTH])
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

    def first_zooms(self, last: int) -> NDArray[np.uint8]:
        """(n,) the lowest zoom at which each feature is shown; it is at all higher ones too.

        The places are given up for it: it is called once.

        Args:
            last: The last zoom.
        """
        empty = np.empty(0)
        x, y, scores = (
            np.concatenate([empty.astype(kind), *parts])
            for kind, parts in (
                (np.uint32, self._x), (np.uint32, self._y), (np.float32, self._scores)
            )
        )  # fmt: skip
        for parts in (self._x, self._y, self._scores):
            parts.clear()
        on_map = ~np.isnan(scores)
        zooms = np.where(on_map, np.uint8(last), np.uint8(NEVER))
        shown = np.flatnonzero(on_map)
        for zoom in reversed(range(last)):
            shown = shown[_best(x[shown], y[shown], scores[shown], zoom)]
            zooms[shown] = zoom
        return zooms


def _best(
    x: NDArray[np.uint32], y: NDArray[np.uint32], scores: NDArray[np.float32], zoom: int
) -> NDArray[np.bool_]:
    """(n,) which features are among the best `MOST` of their cell; of equal ones, the first."""
    away = np.uint32(_BITS - zoom - CELLS)
    cells = (x >> away).astype(np.uint64) << np.uint64(32) | (y >> away)
    order = np.lexsort([-scores, cells])
    cells = cells[order]
    starts = np.flatnonzero(np.append(True, cells[1:] != cells[:-1])) if len(cells) else order
    rank = np.arange(len(cells)) - np.repeat(starts, np.diff(starts, append=len(cells)))
    best = np.zeros(len(cells), bool)
    best[order[rank < MOST]] = True
    return best
