"""Georeference by a geotransform."""

from __future__ import annotations

import numpy as np
from rasterio.transform import Affine
from rasterio.windows import Window

from tasks.imagery.georeference.transformers import Points, Projected, nan_where_not_finite


class AffineGeoreference:
    """A geotransform, which may be rotated, in a CRS.

    Attributes:
        kind: "affine", or "igeolo" if it comes from the corner points of a NITF.
        transform: From pixels to coordinates of the CRS.
        crs: The CRS as WKT.
    """

    def __init__(
        self,
        transform: Affine,
        crs: str,
        size: tuple[int, int],
        kind: str = "affine",
        note: str | None = None,
    ) -> None:
        """Take a geotransform.

        Args:
            transform: From pixels to coordinates of the CRS.
            crs: The CRS as WKT.
            size: Width and height of the image in pixels.
            kind: As the attribute.
            note: Text in place of the default one, or None.
        """
        self.kind = kind
        self.transform = transform
        self.crs = crs
        self._note = note
        centre = transform.a * size[0] / 2 + transform.b * size[1] / 2 + transform.c
        self._projected = Projected(crs, centre)

    @property
    def text(self) -> str:
        """A description for the results."""
        return self._note or f"affine in {self._projected.name}"

    def tile_transform(self, window: Window) -> Affine:
        """The geotransform of a window, for pixels counted from its own corner."""
        a, b, c, d, e, f = self.transform[:6]
        x, y = window.col_off, window.row_off
        return Affine(a, b, a * x + b * y + c, d, e, d * x + e * y + f)

    def to_world(self, points: Points) -> Points:
        """Convert pixels x, y (n, 2) to longitude, latitude (n, 2)."""
        x, y = _apply(self.transform, points[:, 0], points[:, 1])
        return self._projected.to_world(x, y)

    def to_image(self, lonlat: Points) -> Points:
        """Convert longitude, latitude (n, 2) to pixels x, y (n, 2)."""
        x, y = self._projected.to_crs(lonlat)
        return nan_where_not_finite(np.stack(_apply(~self.transform, x, y), axis=1))


def _apply(affine: Affine, x: Points, y: Points) -> tuple[Points, Points]:
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f
