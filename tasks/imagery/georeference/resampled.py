"""The georeference of an image that is read at another resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyproj
from rasterio.transform import Affine

from tasks.imagery.georeference import Georeference
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.imagery.georeference.transformers import Points

_EARTH = pyproj.Geod(ellps="WGS84")
_STEP = 8.0  # pixels to each side of the centre, between which a pixel is measured


@dataclass(frozen=True)
class ResampledGeoreference:
    """Another georeference, for larger or smaller pixels.

    Attributes:
        original: That of the image's own pixels.
        factors: Pixels of the image for each of these, in x and y.
    """

    original: Georeference
    factors: tuple[float, float]

    @property
    def kind(self) -> str:
        """That of the original."""
        return self.original.kind

    @property
    def text(self) -> str:
        """That of the original."""
        return self.original.text

    def to_world(self, points: Points) -> Points:
        """Convert pixels x, y (n, 2) to longitude, latitude (n, 2)."""
        return self.original.to_world(points * self.factors)

    def to_image(self, lonlat: Points) -> Points:
        """Convert longitude, latitude (n, 2) to pixels x, y (n, 2)."""
        return self.original.to_image(lonlat) / self.factors


def resampled(
    georeference: Georeference, factors: tuple[float, float], size: tuple[int, int]
) -> Georeference:
    """A georeference for larger or smaller pixels; a geotransform stays one.

    Args:
        georeference: That of the image's own pixels.
        factors: Pixels of the image for each of the new ones, in x and y.
        size: Width and height of the image in new pixels.
    """
    if isinstance(georeference, AffineGeoreference):
        transform = georeference.transform @ Affine.scale(*factors)
        text = georeference.text
        return AffineGeoreference(transform, georeference.crs, size, georeference.kind, text)
    return ResampledGeoreference(georeference, factors)


def metres_per_pixel(georeference: Georeference | None, size: tuple[int, int]) -> float | None:
    """Metres on the ellipsoid that a pixel is long at the centre of an image.

    Args:
        georeference: The image's, or None.
        size: Its width and height in pixels.

    Returns:
        The geometric mean of both axes; None if the centre has no position.
    """
    if georeference is None:
        return None
    centre = np.array(size, np.float64) / 2
    sides = np.array([[-_STEP, 0], [_STEP, 0], [0, -_STEP], [0, _STEP]])
    world = np.asarray(georeference.to_world(centre + sides), np.float64)
    if not np.isfinite(world).all():
        return None
    _, _, lengths = _EARTH.inv(*world[::2].T, *world[1::2].T)
    metres = float(np.sqrt(lengths[0] * lengths[1]) / (2 * _STEP))
    return metres if metres > 0 else None
