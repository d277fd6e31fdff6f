"""The georeference of GeoTIFF tiles (OGC GeoTIFF 1.1, and the tag for RPC)."""

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
_LINE_OFF = 16  # offset of LINE_OFF and SAMP_OFF in the RPC tag


class TiffGeotags:
    """Georeferences the tiles of an image for GeoTIFF.

    A geotransform, ground control points or RPC are those of the image, shifted to the origin of
    the tile. Any other georeference is approximated by nine ground control points per tile.
    """

    def __init__(self, image: Image) -> None:
        self._georeference = image.georeference
        self._image_gcps = (
            np.array([[p.col, p.row, 0, p.x, p.y, p.z or 0] for p in image.georeference.points])
            if isinstance(image.georeference, SplineGeoreference)
            else None
        )

    def options(self, window: Window) -> dict[str, Any]:
        """The georeference of a tile, as keyword arguments of `rasterio.open`."""
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
        """Write the georeference of a tile into the header of another tile of the same shape.

        Args:
            header: Header of a little-endian TIFF that was made with the `options` of the other
                tile; it is changed.
            fields: Offset of the values of each tag in the header.
            window: The tile, in pixels of the full image.

        Returns:
            False if that is not possible because only one of the two tiles has a position.
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
        """Column, row, 0, x, y, z (n, 6) of a tile's control points; n is 0 without a position.

        Columns and rows are pixels of the tile; x, y, z are in the image's CRS, or longitude,
        latitude in degrees and 0.
        """
        if self._image_gcps is not None:
            return self._image_gcps - np.pad(_origin(window), (0, 4))
        assert self._georeference is not None
        pixels = _GRID * (window.width, window.height)
        world = self._georeference.to_world(pixels + _origin(window))
        zeros = np.zeros((9, 1))
        points = np.hstack([pixels, zeros, world, zeros])
        return points if np.isfinite(world).all() else points[:0]


def geotags_of(image: Image) -> dict[str, Any]:
    """The georeference of a GeoTIFF as large as an image, as keyword arguments of `rasterio.open`.

    It is the image's own geotransform, ground control points or RPC; any other one is approximated
    by nine ground control points.
    """
    return TiffGeotags(image).options(Window(0, 0, image.width, image.height))


def _origin(window: Window) -> NDArray[np.float64]:
    return np.array([window.col_off, window.row_off], float)
