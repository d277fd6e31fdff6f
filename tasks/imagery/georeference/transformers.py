"""Coordinate conversions for georeferences: pyproj for a CRS, GDAL for GCPs and RPC."""

from __future__ import annotations

from functools import cached_property
from threading import Lock

import numpy as np
import pyproj
from numpy.typing import NDArray
from rasterio.transform import GCPTransformer, RPCTransformer

Points = NDArray[np.float64]
"""Points (n, 2), x before y: pixels x, y or longitude, latitude in degrees."""

Axis = NDArray[np.float64]
"""Coordinates (n,) of points along one axis."""


class Projected:
    """Converts between coordinates of a CRS and longitude, latitude.

    An image may extend beyond the edge at which its CRS wraps around (180° in degrees, the edges
    of a Mercator map), so coordinates are wrapped to be near the image.
    """

    def __init__(self, crs: str, centre_x: float) -> None:
        self._crs = pyproj.CRS.from_user_input(crs)
        self._centre = centre_x
        self._period = 360.0 if self._crs.is_geographic else self._circumference()

    @property
    def name(self) -> str:
        """The code of the CRS, such as EPSG:32618, otherwise its name."""
        return ":".join(self._crs.to_authority() or (self._crs.name,))

    @cached_property
    def _transformer(self) -> pyproj.Transformer:
        return pyproj.Transformer.from_crs(self._crs, 4326, always_xy=True)

    def to_world(self, x: Axis, y: Axis) -> Points:
        """Convert coordinates x and y (n,) to longitude, latitude (n, 2)."""
        lonlat = np.stack(self._transformer.transform(x, y), axis=1)
        lonlat[:, 0] = wrap_near(lonlat[:, 0], 0.0)
        return nan_where_not_finite(lonlat)

    def to_crs(self, lonlat: Points) -> tuple[Axis, Axis]:
        """Convert longitude, latitude (n, 2) to coordinates x and y (n,)."""
        x, y = self._transformer.transform(lonlat[:, 0], lonlat[:, 1], direction="INVERSE")
        return (wrap_near(x, self._centre, self._period) if self._period else x), y

    def _circumference(self) -> float | None:
        """Length of 360° of longitude along x in the unit of the CRS; None if not cylindrical."""
        longitude, latitude = np.meshgrid(np.arange(-175.0, 175.0, 25.0), [-40.0, 0.0, 40.0])
        with np.errstate(invalid="ignore"):  # infinite outside the projection
            ends = [
                self._transformer.transform(longitude + step, latitude, direction="INVERSE")[0]
                for step in (0.0, 1.0)
            ]
            steps = ends[1] - ends[0]
        usual = float(np.median(steps))
        # one step of each row may cross the edge where the map wraps around
        alike = np.isclose(steps, usual, rtol=1e-6).sum(axis=1) >= steps.shape[1] - 1
        return 360.0 * usual if np.isfinite(usual) and alike.all() else None


class GdalTransformer:
    """One of GDAL's transformers with a lock, as they are not thread-safe."""

    def __init__(self, transformer: GCPTransformer | RPCTransformer) -> None:
        self._transformer = transformer
        self._lock = Lock()

    def forward(self, x: Axis, y: Axis, z: Axis | None = None) -> tuple[Axis, Axis]:
        """Convert pixels to world coordinates, at heights z if the transformer needs them."""
        if not len(x):
            return x, y
        with self._lock:
            world = self._transformer.xy(y, x, zs=z, offset="ul")
        return np.asarray(world[0]), np.asarray(world[1])

    def inverse(self, x: Axis, y: Axis, z: Axis | None = None) -> tuple[Axis, Axis]:
        """Convert world coordinates to pixels, at heights z if the transformer needs them."""
        if not len(x):
            return x, y
        with self._lock:  # `positive` keeps the fractions, which the default rounds
            row, column = self._transformer.rowcol(x, y, zs=z, op=np.positive)
        return np.asarray(column), np.asarray(row)


def wrap_near(longitude: Axis, centre: Axis | float, period: float = 360.0) -> Axis:
    """Shift longitudes by whole periods to within half a period of a centre.

    Longitudes within that distance keep exactly their value.

    Args:
        longitude: Longitudes of any shape in degrees, or x coordinates in the unit of `period`.
        centre: One centre for all, or an array of the same shape, in the same unit.
        period: Length of 360° of longitude, in the same unit.
    """
    with np.errstate(invalid="ignore"):  # infinite where pyproj cannot convert a point
        wrapped = longitude - period * np.round((longitude - centre) / period)
        return np.where(np.abs(longitude - centre) > abs(period) / 2, wrapped, longitude)


def nan_where_not_finite(points: Points) -> Points:
    """Set both coordinates of a point to NaN if one is not finite; changes the array."""
    finite = np.isfinite(points)
    points[~(finite[:, 0] & finite[:, 1])] = np.nan
    return points
