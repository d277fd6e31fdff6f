"""Georeference by ground control points."""

from __future__ import annotations

import numpy as np
import pyproj
from rasterio.control import GroundControlPoint
from rasterio.transform import GCPTransformer

from tasks.errors import ImageError
from tasks.imagery.georeference.transformers import (
    GdalTransformer,
    Points,
    Projected,
    nan_where_not_finite,
    wrap_near,
)

_POLAR = 80.0  # degrees of latitude


class SplineGeoreference:
    """A thin-plate spline through ground control points, exact at each (Bookstein 1989).

    Degrees cannot be interpolated near a pole: points beyond 80° of latitude are converted to
    polar stereographic metres.

    Attributes:
        kind: "gcp", or "igeolo" for the four corner points of a NITF.
        points: The points without duplicates, with x and y in `crs`.
        crs: The CRS as WKT: the one given, or a polar stereographic one.
    """

    def __init__(
        self,
        points: list[GroundControlPoint],
        crs: str,
        kind: str = "gcp",
        note: str | None = None,
    ) -> None:
        self.kind = kind
        self._note = note
        distinct = {(p.col, p.row): p for p in points}.values()  # a duplicate makes it singular
        xs, ys = np.array([(point.x, point.y) for point in distinct]).T
        if pyproj.CRS.from_user_input(crs).is_geographic:
            xs = wrap_near(xs, float(xs[0]))
            if np.abs(ys).max() > _POLAR:
                polar = pyproj.CRS(5041 if ys.mean() > 0 else 5042)  # universal polar stereographic
                from_degrees = pyproj.Transformer.from_crs(crs, polar, always_xy=True)
                xs, ys = from_degrees.transform(xs, ys)
                crs = polar.to_wkt()
        _check_spread(np.array([(point.col, point.row) for point in distinct]))
        _check_spread(np.stack([xs, ys], axis=1))
        self.crs = crs
        self._projected = Projected(crs, float(xs[0]))
        self.points = [
            GroundControlPoint(row=point.row, col=point.col, x=x, y=y, z=point.z)
            for point, x, y in zip(distinct, xs, ys, strict=True)
        ]
        self._spline = GdalTransformer(GCPTransformer(self.points, tps=True))

    @property
    def text(self) -> str:
        """A description for the results."""
        return self._note or f"thin-plate spline through {len(self.points)} GCPs"

    def to_world(self, points: Points) -> Points:
        """Convert pixels x, y (n, 2) to longitude, latitude (n, 2)."""
        return self._projected.to_world(*self._spline.forward(points[:, 0], points[:, 1]))

    def to_image(self, lonlat: Points) -> Points:
        """Convert longitude, latitude (n, 2) to pixels x, y (n, 2)."""
        x, y = self._spline.inverse(*self._projected.to_crs(lonlat))
        return nan_where_not_finite(np.stack([x, y], axis=1))


def _check_spread(points: Points) -> None:
    """Refuse points (n, 2) that do not define a mapping.

    Raises:
        ImageError: The points lie on one line or coincide.
    """
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    if spread[-1] <= 1e-9 * max(spread[0], 1.0):
        raise ImageError(
            f"Its {len(points)} ground control points lie on one line or coincide, so they cannot "
            "georeference the image: correct them, or remove them to get pixel coordinates only."
        )
