"""What a GeoTIFF tile says of its place (OGC GeoTIFF 1.1, and the tag of RPCs)."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.control import GroundControlPoint
from rasterio.windows import Window

from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.imagery.georeference.ichipb import shifted_rpcs
from tasks.imagery.georeference.rpc import RpcGeoreference
from tasks.imagery.georeference.spline import SplineGeoreference
from tasks.imagery.image import Image

_TIEPOINT, _TRANSFORMATION, _RPC = 33922, 34264, 50844
_GRID = np.array([[x, y] for y in (0, 0.5, 1) for x in (0, 0.5, 1)])
_LINE_OFF = 16  # bytes of the RPC tag before LINE_OFF and SAMP_OFF


class TiffGeotags:
    """The place of each tile of an image, as GeoTIFF writes it.

    A geotransform, ground control points and RPC are those of the image, moved to the tile's
    origin. Of any other georeference a tile carries nine control points.
    """

    def __init__(self, image: Image) -> None:
        self._georeference = image.georeference
        self._control = (
            np.array([[p.col, p.row, 0, p.x, p.y, p.z or 0] for p in image.georeference.points])
            if isinstance(image.georeference, SplineGeoreference)
            else None
        )

    def options(self, window: Window) -> dict[str, Any]:
        """A tile's place, in the words of `rasterio.open`."""
        georeference = self._georeference
        if georeference is None:
            return {}
        if isinstance(georeference, AffineGeoreference):
            return {"crs": georeference.crs, "transform": georeference.tile_transform(window)}
        if isinstance(georeference, RpcGeoreference):
            return {"rpcs": shifted_rpcs(georeference.rpcs, window.col_off, window.row_off)}
        crs = georeference.crs if isinstance(georeference, SplineGeoreference) else "EPSG:4326"
        points = [
            GroundControlPoint(col=col, row=row, x=x, y=y, z=z)
            for col, row, _, x, y, z in self._tie_points(window).tolist()
        ]
        return {"crs": crs, "gcps": points} if points else {}

    def write(self, header: bytearray, fields: dict[int, int], window: Window) -> bool:
        """Put a tile's place in the header of another of the same image and shape.

        False where that is not possible: one of the two is nowhere in the world.

        Args:
            header: Of a little-endian TIFF with the `options` of the other tile.
            fields: Where the values of each tag stand in it.
            window: The tile's.
        """
        georeference = self._georeference
        if isinstance(georeference, AffineGeoreference):
            a, b, c, d, e, f = georeference.tile_transform(window)[:6]
            if _TRANSFORMATION in fields:
                matrix = (a, b, 0, c, d, e, 0, f, 0, 0, 0, 0, 0, 0, 0, 1)
                struct.pack_into("<16d", header, fields[_TRANSFORMATION], *matrix)
            else:
                struct.pack_into("<6d", header, fields[_TIEPOINT], 0, 0, 0, c, f, 0)
        elif isinstance(georeference, RpcGeoreference):
            rpcs = shifted_rpcs(georeference.rpcs, window.col_off, window.row_off)
            struct.pack_into("<2d", header, fields[_RPC] + _LINE_OFF, rpcs.line_off, rpcs.samp_off)
        elif georeference:
            points = self._tie_points(window).astype("<f8").tobytes()
            if (_TIEPOINT in fields) != bool(points):
                return False
            if points:
                header[fields[_TIEPOINT] : fields[_TIEPOINT] + len(points)] = points
        return True

    def _tie_points(self, window: Window) -> NDArray[np.float64]:
        """Column, row, 0, x, y, z (n, 6) of control points; none where the world has no answer."""
        if self._control is not None:
            return self._control - np.pad(_origin(window), (0, 4))
        assert self._georeference is not None
        places = _GRID * (window.width, window.height)
        world = self._georeference.to_world(places + _origin(window))
        nothing = np.zeros((9, 1))
        points = np.hstack([places, nothing, world, nothing])
        return points if np.isfinite(world).all() else points[:0]


def _origin(window: Window) -> NDArray[np.float64]:
    return np.array([window.col_off, window.row_off], float)
