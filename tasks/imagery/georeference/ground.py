"""The ground surface under an image, and its intersection with lines of sight."""

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
_TOLERANCE = 1e-4  # metres between a line of sight and the ground at an intersection
_MAX_STEPS = 80
_SECANT_STEPS = 6  # steps by the secant method alone; more are seldom needed
_MAX_RATIO = 4.0  # longest secant step, as a multiple of the gap
_MAX_STRIDE = 100.0  # metres: longest step along a line that is nearly tangent to the ground

ToWorldAtHeight = Callable[[Points, NDArray[np.float64]], Points]
"""Converts pixels (n, 2) at heights (n,) above the ellipsoid to longitude, latitude (n, 2)."""


@dataclass(frozen=True)
class Ground:
    """A surface above the WGS 84 ellipsoid.

    Attributes:
        height: Metres, used without an elevation model and where it has no height.
        dem: The elevation model, or None.
        text: A description for the results: "at 31 m" or "over s3://dem/world.vrt".
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

    def intersect(self, to_world: ToWorldAtHeight, pixels: Points) -> Points:
        """Intersect lines of sight with the ground, by a secant method with bracketing.

        Args:
            to_world: The sensor model.
            pixels: (n, 2) x, y.

        Returns:
            (n, 2) longitude, latitude of points where line and ground are within 0.1 mm of each
            other; NaN without an intersection. If a line has several, as over a ridge, any one of
            them.
        """
        z = np.full(len(pixels), self.height)
        world = to_world(pixels, z)
        if self.dem is None:
            return world
        low, high = np.full(len(z), -np.inf), np.full(len(z), np.inf)
        z_before, gap_before = np.full(len(z), np.nan), np.full(len(z), np.nan)
        left = np.flatnonzero(np.isfinite(world).all(axis=1))
        for step in range(_MAX_STEPS):
            gap = self.heights(world[left]) - z[left]
            apart = (np.abs(gap) > _TOLERANCE) & (high[left] - low[left] > _TOLERANCE)
            left, gap = left[apart], gap[apart]
            if not len(left):
                return world
            here = z[left]
            low[left] = np.where(gap > 0, here, low[left])
            high[left] = np.where(gap < 0, here, high[left])
            ratio = (here - z_before[left]) / (gap_before[left] - gap)
            z_before[left], gap_before[left] = here, gap
            z[left] = _next_heights(here, gap, ratio, (low[left], high[left]), step - _SECANT_STEPS)
            world[left] = to_world(pixels[left], z[left])
        world[left] = np.nan
        return world


def ground_of(height: float, dem_uri: str | None, extent: Extent) -> Ground:
    """The ground surface under an image.

    Args:
        height: Metres above the ellipsoid, used where the elevation model has no height.
        dem_uri: The elevation model: a GeoTIFF, a VRT or a folder of GeoTIFF tiles, as a path or
            `s3://bucket/key`; or None.
        extent: The approximate extent of the image.

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
    samples = np.stack([x.ravel(), y.ravel()], axis=1)
    if dem is None or np.isnan(dem.heights(samples)).all():
        return Ground(height, None, f"{flat} ({dem_uri} has no heights there)")
    return Ground(height, dem, f"over {dem_uri}")


def _next_heights(
    here: NDArray[np.float64],
    gap: NDArray[np.float64],
    ratio: NDArray[np.float64],
    bounds: tuple[NDArray[np.float64], NDArray[np.float64]],
    late: int,
) -> NDArray[np.float64]:
    """The next heights to try.

    Args:
        here: (n,) heights tried last, in metres above the ellipsoid.
        gap: (n,) metres from these heights up to the ground; negative if the ground is lower.
        ratio: (n,) step of the secant method divided by the gap; NaN in the first step.
        bounds: (n,) heights known to be below the ground, or -inf; and (n,) heights known to be
            above it, or inf.
        late: Number of steps beyond `_SECANT_STEPS`. If positive, every other step bisects the
            bounds, and steps grow until both bounds are known, so that the search converges.
    """
    low, high = bounds
    step = gap * np.where(np.isfinite(ratio) & (ratio > 0), np.minimum(ratio, _MAX_RATIO), 1.0)
    known = np.isfinite(low) & np.isfinite(high)
    if late > 0:
        stride = np.minimum(np.abs(gap) * 2.0**late, _MAX_STRIDE)
        step = np.where(known, step, np.copysign(np.maximum(np.abs(step), stride), gap))
    tried, bisect = here + step, late > 0 and late % 2 == 0
    with np.errstate(invalid="ignore"):  # the mean of -inf and inf is NaN
        return np.where(
            known & (bisect | (tried <= low) | (tried >= high)), (low + high) / 2, tried
        )
