"""Where on Earth an image's pixels lie, and which pixel a place is.

Pixels are corner-origin (the centre of the first is 0.5, 0.5), as GDAL counts; the world is
longitude and latitude in degrees, WGS 84, longitude in [-180, 180]. Where there is no answer, both
coordinates are NaN. Every georeference may be shared by threads.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pyproj
from pyproj.exceptions import ProjError
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC
from rasterio.transform import Affine, GCPTransformer, RPCTransformer
from rasterio.windows import Window

from tasks.imagery.transformers import GdalTransformer, Points, Projected, nan_where_none, near


class Georeference(Protocol):
    """The two-way mapping between an image and the world.

    Attributes:
        kind: What it rests on: affine, gcp, rpc or igeolo (a NITF's corner points).
    """

    @property
    def kind(self) -> str:
        """What it rests on: affine, gcp, rpc or igeolo (a NITF's corner points)."""
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
        self, transform: Affine, crs: str, size: tuple[int, int], kind: str = "affine"
    ) -> None:
        self.kind = kind
        self.transform = transform
        self.crs = crs
        centre = transform.a * size[0] / 2 + transform.b * size[1] / 2 + transform.c
        self._projected = Projected(crs, centre)

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

    Attributes:
        kind: "gcp", or "igeolo" for the four corners of a NITF.
    """

    def __init__(self, points: list[GroundControlPoint], crs: str, kind: str = "gcp") -> None:
        self.kind = kind
        distinct = {(p.col, p.row): p for p in points}.values()  # a twin makes it singular
        xs = np.array([point.x for point in distinct])
        self._projected = Projected(crs, float(xs[0]))
        if pyproj.CRS.from_user_input(crs).is_geographic:
            xs = near(xs, float(xs[0]))
        control = [
            GroundControlPoint(row=point.row, col=point.col, x=x, y=point.y)
            for point, x in zip(distinct, xs, strict=True)
        ]
        self._spline = GdalTransformer(GCPTransformer(control, tps=True))

    def to_world(self, points: Points) -> Points:
        """Longitude, latitude (n, 2) of pixels x, y (n, 2)."""
        return self._projected.to_world(*self._spline.forward(points[:, 0], points[:, 1]))

    def to_image(self, lonlat: Points) -> Points:
        """Pixels x, y (n, 2) of longitude, latitude (n, 2)."""
        x, y = self._spline.inverse(*self._projected.to_crs(lonlat))
        return nan_where_none(np.stack([x, y], axis=1))


class RpcGeoreference:
    """Rational polynomial coefficients (STDI-0002, RPC00B), at the height of their own offset.

    Their line and sample count from pixel centres; GDAL adds the half pixel to ours.

    Attributes:
        kind: "rpc".
    """

    kind = "rpc"

    def __init__(self, rpcs: RPC) -> None:
        self._longitude = float(rpcs.long_off)
        self._rpc = GdalTransformer(
            RPCTransformer(
                rpcs,
                RPC_HEIGHT=rpcs.height_off,
                RPC_PIXEL_ERROR_THRESHOLD=1e-5,  # pixels; GDAL's own 0.1 is too coarse for 1 cm
                RPC_MAX_ITERATIONS=50,
            )
        )

    def to_world(self, points: Points) -> Points:
        """Longitude, latitude (n, 2) of pixels x, y (n, 2)."""
        lonlat = np.stack(self._rpc.forward(points[:, 0], points[:, 1]), axis=1)
        lonlat[:, 0] = near(lonlat[:, 0], 0.0)
        return nan_where_none(lonlat)

    def to_image(self, lonlat: Points) -> Points:
        """Pixels x, y (n, 2) of longitude, latitude (n, 2)."""
        x, y = self._rpc.inverse(near(lonlat[:, 0], self._longitude), lonlat[:, 1])
        return nan_where_none(np.stack([x, y], axis=1))


def georeference_of(dataset: Any) -> Georeference | None:  # noqa: ANN401 - rasterio has no types
    """The best georeference that an open dataset carries, or None where it carries none.

    A NITF's RPC go before its corner points, which are good to tens of metres; elsewhere a
    geotransform goes before GCPs and these before RPC, in GDAL's own order. Coordinates in no CRS,
    or in one with no way to WGS 84, are none.
    """
    points, points_crs = dataset.gcps
    nitf = dataset.driver == "NITF"
    if nitf and dataset.rpcs:
        return RpcGeoreference(dataset.rpcs)
    kind = "igeolo" if nitf and dataset.tags().get("NITF_IGEOLO") else None
    try:
        if dataset.crs and not dataset.transform.is_identity:
            size = (dataset.width, dataset.height)
            wkt = dataset.crs.to_wkt()
            return AffineGeoreference(dataset.transform, wkt, size, kind or "affine")
        if len(points) > 2 and points_crs:
            return SplineGeoreference(points, points_crs.to_wkt(), kind or "gcp")
    except ProjError:
        return None
    return RpcGeoreference(dataset.rpcs) if dataset.rpcs else None


def _apply(affine: Affine, x: Points, y: Points) -> tuple[Points, Points]:
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f
