"""The ground that an image shows, and where a line of sight meets it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.imagery.georeference.dem import Dem
from tasks.imagery.georeference.dem_source import source_of
from tasks.imagery.georeference.dem_tiles import Extent, mosaic
from tasks.imagery.georeference.transformers import Points

_RASTER = re.compile(r"\.(tiff?|vrt)$", re.IGNORECASE)
_CLOSE = 1e-4  # metres between a line of sight and the ground: they meet
_STEPS = 80
_PATIENCE = 6  # steps by secants alone, which nearly always suffice
_REACH = 4.0  # times the gap: a secant's longest step
_STRIDE = 100.0  # metres: the longest step along a line that grazes the ground

At = Callable[[Points, NDArray[np.float64]], Points]
"""Longitude, latitude (n, 2) that pixels (n, 2) show at heights (n,) above the ellipsoid."""


@dataclass(frozen=True)
class Ground:
    """A surface above the WGS 84 ellipsoid.

    Attributes:
        height: Metres, where there is no elevation model or it holds none.
        dem: The elevation model, or None.
        text: The surface in words: "at 31 m" or "over s3://dem/world.vrt".
    """

    height: float
    dem: Dem | None
    text: str

    def heights(self, lonlat: Points) -> NDArray[np.float64]:
        """Metres above the ellipsoid (n,) at longitude, latitude (n, 2)."""
        if self.dem is None:
            return np.full(len(lonlat), self.height)
        heights = self.dem.heights(lonlat)
        return np.where(np.isnan(heights), self.height, heights)

    def seen(self, at: At, pixels: Points) -> Points:
        """Longitude, latitude (n, 2) where the lines of sight of pixels (n, 2) meet the ground.

        By secants, held between a height below the ground and one above it, until line and ground
        are within 0.1 mm of each other; NaN where they never are. A line that meets the ground more
        than once, as over a ridge, may end at any of the places.
        """
        z = np.full(len(pixels), self.height)
        world = at(pixels, z)
        if self.dem is None:
            return world
        low, high = np.full(len(z), -np.inf), np.full(len(z), np.inf)
        z_before, gap_before = np.full(len(z), np.nan), np.full(len(z), np.nan)
        left = np.flatnonzero(np.isfinite(world).all(axis=1))
        for step in range(_STEPS):
            gap = self.heights(world[left]) - z[left]
            apart = (np.abs(gap) > _CLOSE) & (high[left] - low[left] > _CLOSE)
            left, gap = left[apart], gap[apart]
            if not len(left):
                return world
            here = z[left]
            low[left] = np.where(gap > 0, here, low[left])
            high[left] = np.where(gap < 0, here, high[left])
            ratio = (here - z_before[left]) / (gap_before[left] - gap)
            z_before[left], gap_before[left] = here, gap
            z[left] = _next(here, gap, ratio, (low[left], high[left]), step - _PATIENCE)
            world[left] = at(pixels[left], z[left])
        world[left] = np.nan
        return world


def ground_of(height: float, dem_uri: str | None, extent: Extent) -> Ground:
    """The ground of an image.

    Args:
        height: Metres above the ellipsoid, where the elevation model has none.
        dem_uri: The elevation model: a GeoTIFF, a VRT or a folder of GeoTIFF tiles, as a path or
            `s3://bucket/key`; or None.
        extent: Where the image lies, roughly.

    Raises:
        ImageError: The elevation model cannot be read.
    """
    flat = f"at {height:.0f} m"
    if dem_uri is None:
        return Ground(height, None, flat)
    source = source_of(dem_uri) if _RASTER.search(dem_uri) else mosaic(dem_uri, extent)
    dem = Dem(source) if source else None
    west, south, east, north = extent
    x, y = np.meshgrid(np.linspace(west, east, 9), np.linspace(south, north, 9))
    places = np.stack([x.ravel(), y.ravel()], axis=1)
    if dem is None or np.isnan(dem.heights(places)).all():
        return Ground(height, None, f"{flat} ({dem_uri} has no heights there)")
    return Ground(height, dem, f"over {dem_uri}")


def _next(
    here: NDArray[np.float64],
    gap: NDArray[np.float64],
    ratio: NDArray[np.float64],
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]],
    late: int,
) -> NDArray[np.float64]:
    """The next heights to try.

    Args:
        here: (n,) heights tried last, in metres.
        gap: (n,) metres from there up to the ground.
        ratio: (n,) the step that a secant takes, over the gap; NaN at first.
        bounds: (n,) heights known to be below the ground, or -inf; and above it, or inf.
        late: Steps beyond those that should suffice. From there on what lies between the bounds is
            halved every other time, and where one is unknown steps grow until it is not: that ends
            for sure.
    """
    low, high = bounds
    step = gap * np.where(np.isfinite(ratio) & (ratio > 0), np.minimum(ratio, _REACH), 1.0)
    known = np.isfinite(low) & np.isfinite(high)
    if late > 0:
        stride = np.minimum(np.abs(gap) * 2.0**late, _STRIDE)
        step = np.where(known, step, np.copysign(np.maximum(np.abs(step), stride), gap))
    tried, halve = here + step, late > 0 and late % 2 == 0
    with np.errstate(invalid="ignore"):  # the middle of infinities
        return np.where(known & (halve | (tried <= low) | (tried >= high)), (low + high) / 2, tried)
