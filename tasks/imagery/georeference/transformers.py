"""The arithmetic that georeferences stand on: pyproj for a CRS, GDAL for GCPs and RPC."""

from __future__ import annotations

from functools import cached_property
from threading import Lock

import numpy as np
import pyproj
from numpy.typing import NDArray
from rasterio.transform import GCPTransformer, RPCTransformer

Points = NDArray[np.float64]
"""Points (n, 2), x before y: pixels x, y or degrees longitude, latitude."""


class Projected:
    """Coordinates of a CRS and longitude, latitude, either way.

    An image may go on past where its CRS begins anew (180° in degrees, the edges of a Mercator
    map), so coordinates are taken near one of the image's.
    """

    def __init__(self, crs: str, centre_x: float) -> None:
        self._crs = pyproj.CRS.from_user_input(crs)
        self._centre = centre_x
        self._turn = 360.0 if self._crs.is_geographic else self._circumference()

    @property
    def name(self) -> str:
        """The CRS's name in EPSG or its like, else its own."""
        return ":".join(self._crs.to_authority() or (self._crs.name,))

    @cached_property
    def _transformer(self) -> pyproj.Transformer:
        return pyproj.Transformer.from_crs(self._crs, 4326, always_xy=True)

    def to_world(self, x: Points, y: Points) -> Points:
        """Longitude, latitude (n, 2) of coordinates x and y."""
        lonlat = np.stack(self._transformer.transform(x, y), axis=1)
        lonlat[:, 0] = wrap_near(lonlat[:, 0], 0.0)
        return nan_where_not_finite(lonlat)

    def to_crs(self, lonlat: Points) -> tuple[Points, Points]:
        """Coordinates x and y of longitude, latitude (n, 2)."""
        x, y = self._transformer.transform(lonlat[:, 0], lonlat[:, 1], direction="INVERSE")
        return (wrap_near(x, self._centre, self._turn) if self._turn else x), y

    def _circumference(self) -> float | None:
        """The step in x of a whole turn, in a CRS of a cylinder's map; None in any other."""
        longitude, latitude = np.meshgrid(np.arange(-175.0, 175.0, 25.0), [-40.0, 0.0, 40.0])
        with np.errstate(invalid="ignore"):  # infinite where the projection has no answer
            ends = [
                self._transformer.transform(longitude + step, latitude, direction="INVERSE")[0]
                for step in (0.0, 1.0)
            ]
            steps = ends[1] - ends[0]
        usual = float(np.median(steps))
        # one meridian of each row may be where the map begins anew
        alike = np.isclose(steps, usual, rtol=1e-6).sum(axis=1) >= steps.shape[1] - 1
        return 360.0 * usual if np.isfinite(usual) and alike.all() else None


class GdalTransformer:
    """One of GDAL's transformers, for one thread at a time."""

    def __init__(self, transformer: GCPTransformer | RPCTransformer) -> None:
        self._transformer = transformer
        self._lock = Lock()

    def forward(self, x: Points, y: Points, z: Points | None = None) -> tuple[Points, Points]:
        """Coordinates of the world for pixels, at heights z where the transformer asks for them."""
        if not len(x):
            return x, y
        with self._lock:
            world = self._transformer.xy(y, x, zs=z, offset="ul")
        return np.asarray(world[0]), np.asarray(world[1])

    def inverse(self, x: Points, y: Points, z: Points | None = None) -> tuple[Points, Points]:
        """Pixels for coordinates of the world, at heights z where the transformer asks for them."""
        if not len(x):
            return x, y
        with self._lock:  # `positive` keeps the fractions that the default rounds off
            row, column = self._transformer.rowcol(x, y, zs=z, op=np.positive)
        return np.asarray(column), np.asarray(row)


def wrap_near(longitude: Points, centre: float, turn: float = 360.0) -> Points:
    """Longitudes moved by whole turns to within half of one of a centre; untouched where they are.

    Args:
        longitude: In degrees, or in the units of `turn`.
        centre: In the same.
        turn: A whole turn.
    """
    with np.errstate(invalid="ignore"):  # infinite where pyproj has no answer
        moved = longitude - turn * np.round((longitude - centre) / turn)
        return np.where(np.abs(longitude - centre) > abs(turn) / 2, moved, longitude)


def nan_where_not_finite(points: Points) -> Points:
    """Points with both coordinates NaN where one is not finite."""
    points[~np.isfinite(points).all(axis=1)] = np.nan
    return points
