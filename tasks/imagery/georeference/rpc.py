"""Georeference by rational polynomial coefficients."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rasterio.rpc import RPC
from rasterio.transform import RPCTransformer

from tasks.imagery.georeference.ground import ground_of
from tasks.imagery.georeference.transformers import (
    GdalTransformer,
    Points,
    nan_where_not_finite,
    wrap_near,
)


class RpcGeoreference:
    """Rational polynomial coefficients (STDI-0002, RPC00B), intersected with the ground.

    The ground is the elevation model if one is set, otherwise the height offset of the RPC. Line
    and sample have their origin at the centre of the first pixel; GDAL adds the half pixel.

    Attributes:
        kind: "rpc".
        rpcs: The coefficients, for pixels of this image.
        text: Such as "RPC at 31 m" or "RPC over s3://dem/world.vrt".
    """

    kind = "rpc"

    def __init__(self, rpcs: RPC, dem_uri: str | None = None) -> None:
        self.rpcs = rpcs
        self._longitude = float(rpcs.long_off)
        self._rpc = GdalTransformer(
            RPCTransformer(
                rpcs,
                RPC_PIXEL_ERROR_THRESHOLD=1e-5,  # pixels; GDAL's own 0.1 is too coarse for 1 cm
                RPC_MAX_ITERATIONS=50,
            )
        )
        extent = (
            rpcs.long_off - rpcs.long_scale,
            max(rpcs.lat_off - rpcs.lat_scale, -90.0),
            rpcs.long_off + rpcs.long_scale,
            min(rpcs.lat_off + rpcs.lat_scale, 90.0),
        )
        self._ground = ground_of(float(rpcs.height_off), dem_uri, extent)
        self.text = f"RPC {self._ground.text}"

    def to_world(self, points: Points) -> Points:
        """Convert pixels x, y (n, 2) to longitude, latitude (n, 2)."""
        lonlat = self._ground.intersect(self._at, points)
        lonlat[:, 0] = wrap_near(lonlat[:, 0], 0.0)
        return lonlat

    def to_image(self, lonlat: Points) -> Points:
        """Convert longitude, latitude (n, 2) to pixels x, y (n, 2)."""
        longitude, latitude = wrap_near(lonlat[:, 0], self._longitude), lonlat[:, 1]
        x, y = self._rpc.inverse(longitude, latitude, self._ground.heights(lonlat))
        return nan_where_not_finite(np.stack([x, y], axis=1))

    def _at(self, points: Points, heights: NDArray[np.float64]) -> Points:
        x, y = self._rpc.forward(points[:, 0], points[:, 1], heights)
        return nan_where_not_finite(np.stack([x, y], axis=1))
