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

    A geographic CRS may count on past 180°, so its longitudes are taken near one of the image's.
    """

    def __init__(self, crs: str, centre_x: float) -> None:
        self._crs = pyproj.CRS.from_user_input(crs)
        self._centre = centre_x if self._crs.is_geographic else None
        self._transformer  # noqa: B018 - a CRS without a way to WGS 84 is found out here

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
        lonlat[:, 0] = near(lonlat[:, 0], 0.0)
        return nan_where_none(lonlat)

    def to_crs(self, lonlat: Points) -> tuple[Points, Points]:
        """Coordinates x and y of longitude, latitude (n, 2)."""
        x, y = self._transformer.transform(lonlat[:, 0], lonlat[:, 1], direction="INVERSE")
        return (x if self._centre is None else near(x, self._centre)), y


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


def near(longitude: Points, centre: float) -> Points:
    """Longitudes moved by whole turns to within 180° of a centre; untouched where they are."""
    with np.errstate(invalid="ignore"):  # infinite where pyproj has no answer
        moved = longitude - 360.0 * np.round((longitude - centre) / 360.0)
        return np.where(np.abs(longitude - centre) > 180.0, moved, longitude)


def nan_where_none(points: Points) -> Points:
    """Points with both coordinates NaN where one is not finite."""
    points[~np.isfinite(points).all(axis=1)] = np.nan
    return points
