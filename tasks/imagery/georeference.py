"""Where on Earth an image's pixels lie, and which pixel a place is.

Pixels are corner-origin (the centre of the first is 0.5, 0.5), as GDAL counts; the world is
longitude and latitude in degrees, WGS 84, longitude in [-180, 180]. Where there is no answer, both
coordinates are NaN. Every georeference may be shared by threads.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pyproj
from rasterio.control import GroundControlPoint
from rasterio.transform import Affine, GCPTransformer
from rasterio.windows import Window

from tasks.imagery.transformers import GdalTransformer, Points, Projected, nan_where_none, near

_POLAR = 80.0  # degrees of latitude


class Georeference(Protocol):
    """The two-way mapping between an image and the world.

    Attributes:
        kind: What it rests on: affine, gcp, rpc, igeolo (a NITF's corner points), sicd or sidd.
        text: The same in words, for the record: "affine in EPSG:32618".
    """

    @property
    def kind(self) -> str:
        """What it rests on: affine, gcp, rpc, igeolo (a NITF's corner points), sicd or sidd."""
        ...

    @property
    def text(self) -> str:
        """What it rests on, in words: "affine in EPSG:32618"."""
        ...

    def to_world(self, points: Points) -> Points:
        """Longitude, latitude (n, 2) of pixels x, y (n, 2)."""
        ...

    def to_image(self, lonlat: Points) -> Points:
        """Pixels x, y (n, 2) of longitude, latitude (n, 2); outside the image is no error."""
        ...


class AffineGeoreference:
    """A geotransform in a CRS, rotated or not.

    Attributes:
        kind: "affine", or "igeolo" where a NITF's corners gave it.
        transform: Pixels to coordinates of the CRS.
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
        self.kind = kind
        self.transform = transform
        self.crs = crs
        self._note = note
        centre = transform.a * size[0] / 2 + transform.b * size[1] / 2 + transform.c
        self._projected = Projected(crs, centre)

    @property
    def text(self) -> str:
        """What it rests on, in words."""
        return self._note or f"affine in {self._projected.name}"

    def tile_transform(self, window: Window) -> Affine:
        """The geotransform of a window by itself."""
        a, b, c, d, e, f = self.transform[:6]
        x, y = window.col_off, window.row_off
        return Affine(a, b, a * x + b * y + c, d, e, d * x + e * y + f)

    def to_world(self, points: Points) -> Points:
        """Longitude, latitude (n, 2) of pixels x, y (n, 2)."""
        x, y = _apply(self.transform, points[:, 0], points[:, 1])
        return self._projected.to_world(x, y)

    def to_image(self, lonlat: Points) -> Points:
        """Pixels x, y (n, 2) of longitude, latitude (n, 2)."""
        x, y = self._projected.to_crs(lonlat)
        return nan_where_none(np.stack(_apply(~self.transform, x, y), axis=1))


class SplineGeoreference:
    """A thin-plate spline through ground control points, exact at each (Bookstein 1989).

    Degrees are no plane near a pole: points that reach there are taken in polar stereographic
    metres.

    Attributes:
        kind: "gcp", or "igeolo" for the four corners of a NITF.
        points: The points, each at a place of its own, in x and y of the CRS.
        crs: Their CRS as WKT.
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
        distinct = {(p.col, p.row): p for p in points}.values()  # a twin makes it singular
        xs, ys = np.array([(point.x, point.y) for point in distinct]).T
        if pyproj.CRS.from_user_input(crs).is_geographic:
            xs = near(xs, float(xs[0]))
            if np.abs(ys).max() > _POLAR:
                polar = pyproj.CRS(5041 if ys.mean() > 0 else 5042)  # universal polar stereographic
                from_degrees = pyproj.Transformer.from_crs(crs, polar, always_xy=True)
                xs, ys = from_degrees.transform(xs, ys)
                crs = polar.to_wkt()
        self.crs = crs
        self._projected = Projected(crs, float(xs[0]))
        self.points = [
            GroundControlPoint(row=point.row, col=point.col, x=x, y=y)
            for point, x, y in zip(distinct, xs, ys, strict=True)
        ]
        self._spline = GdalTransformer(GCPTransformer(self.points, tps=True))

    @property
    def text(self) -> str:
        """What it rests on, in words."""
        return self._note or f"thin-plate spline through {len(self.points)} GCPs"

    def to_world(self, points: Points) -> Points:
        """Longitude, latitude (n, 2) of pixels x, y (n, 2)."""
        return self._projected.to_world(*self._spline.forward(points[:, 0], points[:, 1]))

    def to_image(self, lonlat: Points) -> Points:
        """Pixels x, y (n, 2) of longitude, latitude (n, 2)."""
        x, y = self._spline.inverse(*self._projected.to_crs(lonlat))
        return nan_where_none(np.stack([x, y], axis=1))


def _apply(affine: Affine, x: Points, y: Points) -> tuple[Points, Points]:
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f
