"""Georeference by a geotransform."""

from __future__ import annotations

from math import isfinite

import numpy as np
from rasterio.transform import Affine
from rasterio.windows import Window

from tasks.errors import ImageError
from tasks.imagery.georeference.transformers import Axis, Points, Projected, nan_where_not_finite


class AffineGeoreference:
    """A geotransform in a CRS; it may have a rotation.

    Attributes:
        kind: "affine", or "igeolo" if it comes from the corner points of a NITF.
        transform: Affine transform from pixels to coordinates of the CRS.
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
        """Use a geotransform.

        Args:
            transform: Affine transform from pixels to coordinates of the CRS.
            crs: The CRS as WKT.
            size: Width and height of the image in pixels.
            kind: "affine" or "igeolo".
            note: Value of `text`; None for the default.

        Raises:
            ImageError: The transform gives different pixels one position, or none.
        """
        if transform.is_degenerate or not isfinite(transform.determinant):
            raise ImageError(
                f"Its geotransform {transform.to_gdal()} gives different pixels one position, or "
                "none: correct it, with gdal_edit.py -a_ullr, or remove it, with gdal_edit.py "
                "-unsetgt, to get pixel coordinates only."
            )
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


def _apply(affine: Affine, x: Axis, y: Axis) -> tuple[Axis, Axis]:
    """Transform coordinates x and y (n,)."""
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f
