"""Heights of the ground from a digital elevation model.

The model is set by the operator (`SWATH_DEM_URI`), so its references to other files are trusted: a
VRT is allowed. Heights are interpolated bilinearly between the four nearest cells, as GDAL's
RPC_DEM does; cells without a height are ignored.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import numpy as np
import pyproj
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from rasterio.windows import Window

from tasks.errors import ImageError
from tasks.imagery.georeference.dem_source import DemSource
from tasks.imagery.georeference.transformers import Points, Projected

_BLOCK = 256  # rows and columns of cells that are read and cached together
_CACHED_BLOCKS = 128  # 64 MiB
_METRES = {"", "m", "metre", "metres", "meter", "meters"}


class Dem:
    """A digital elevation model. Threads may share it.

    Attributes:
        uri: Its URI, as in SWATH_DEM_URI.
    """

    def __init__(self, source: DemSource) -> None:
        self.uri = source.uri
        self._source = source
        self._cache: OrderedDict[tuple[int, int], NDArray[np.float64]] = OrderedDict()
        self._lock = Lock()
        with source.opened() as dataset:
            self._to_cells = ~dataset.transform
            self._shape = dataset.shape
            crs = dataset.crs.to_wkt() if dataset.crs else ""
            centre = (dataset.bounds.left + dataset.bounds.right) / 2
            unit = dataset.units[0] or ""
        try:
            self._projected = Projected(crs, centre)
            self._to_ellipsoid = _to_ellipsoid(crs)
        except ProjError as error:
            raise ImageError(
                f"SWATH_DEM_URI: {self.uri} has no usable reference system ({error}): "
                "set one with `gdal_edit -a_srs`; `pyproj sync` downloads the grid of a geoid."
            ) from error
        if unit.lower() not in _METRES and self._to_ellipsoid is None:
            raise ImageError(
                f"SWATH_DEM_URI: {self.uri} has heights in {unit}: convert them to metres."
            )

    def heights(self, lonlat: Points) -> NDArray[np.float64]:
        """Heights of the ground above the WGS 84 ellipsoid.

        If the model's CRS has a vertical datum (EPSG:4326+3855: EGM2008), its heights are
        converted, as GDAL does (RPC_DEM_APPLY_VDATUM_SHIFT). Otherwise they are taken as heights
        above the ellipsoid.

        Args:
            lonlat: (n, 2) longitude, latitude in degrees.

        Returns:
            (n,) in metres; NaN where the model has no height.

        Raises:
            ImageError: A part of the model cannot be read, or the grid of its geoid is missing.
        """
        x, y = self._projected.to_crs(lonlat)
        a, b, c, d, e, f = self._to_cells[:6]
        heights = self._between_cells(a * x + b * y + c - 0.5, d * x + e * y + f - 0.5)
        if self._to_ellipsoid is None:
            return heights
        known = np.flatnonzero(np.isfinite(heights))
        heights[known] = self._to_ellipsoid.transform(x[known], y[known], heights[known])[2]
        if not np.isfinite(heights[known]).all():
            raise ImageError(
                f"SWATH_DEM_URI: {self.uri} has heights above a geoid, and the grid of the "
                "geoid is not on this machine: download it with `pyproj sync`."
            )
        return heights

    def _between_cells(
        self, columns: NDArray[np.float64], rows: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Heights at columns and rows (n,), counted from the centre of the first cell."""
        heights = np.full(len(columns), np.nan)
        height, width = self._shape
        inside = (columns >= -0.5) & (columns <= width - 0.5) & (rows >= -0.5)
        points = np.flatnonzero(inside & (rows <= height - 0.5))
        across = width // _BLOCK + 2
        numbers = (rows[points] // _BLOCK + 1) * across + columns[points] // _BLOCK + 1
        found, owners = np.unique(numbers.astype(np.int64), return_inverse=True)
        members = np.split(points[np.argsort(owners)], np.cumsum(np.bincount(owners))[:-1])
        for number, those in zip(found.tolist(), members, strict=False):
            row, column = number // across - 1, number % across - 1
            cells = self._block(row, column)
            left, top = column * _BLOCK, row * _BLOCK
            heights[those] = _bilinear(cells, columns[those] - left, rows[those] - top)
        return heights

    def _block(self, row: int, column: int) -> NDArray[np.float64]:
        """The cells of a block and of the next row and column; NaN for cells without a height."""
        with self._lock:  # a thread that needs the same block waits instead of reading it too
            if (row, column) not in self._cache:
                self._cache[row, column] = self._read(row * _BLOCK, column * _BLOCK)
                if len(self._cache) > _CACHED_BLOCKS:
                    self._cache.popitem(last=False)
            self._cache.move_to_end((row, column))
            return self._cache[row, column]

    def _read(self, top: int, left: int) -> NDArray[np.float64]:
        cells = np.full((_BLOCK + 1, _BLOCK + 1), np.nan)
        height, width = self._shape
        rows = slice(max(top, 0), min(top + _BLOCK + 1, height))
        columns = slice(max(left, 0), min(left + _BLOCK + 1, width))
        with self._source.opened() as dataset:
            read = dataset.read(1, window=Window.from_slices(rows, columns), masked=True)
            heights = read.astype(np.float64) * dataset.scales[0] + dataset.offsets[0]
        inside = cells[rows.start - top : rows.stop - top, columns.start - left :]
        inside[:, : columns.stop - columns.start] = heights.filled(np.nan)
        return cells


def _to_ellipsoid(crs: str) -> pyproj.Transformer | None:
    """The conversion from a CRS to heights above the ellipsoid; None without a vertical datum.

    Raises:
        ProjError: The grid of its geoid is missing. Without it, heights would be off by tens of
            metres.
    """
    known = pyproj.CRS.from_user_input(crs)
    if len(known.axis_info) < 3:
        return None
    return pyproj.Transformer.from_crs(
        known, 4979, always_xy=True, allow_ballpark=False, only_best=True
    )


def _bilinear(
    cells: NDArray[np.float64], columns: NDArray[np.float64], rows: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Interpolate bilinearly between cells (rows, columns); cells without a height are ignored.

    Args:
        cells: Heights in metres; NaN for cells without a height.
        columns: (n,) columns of the points, from the centre of the first cell.
        rows: (n,) rows of the points, from the centre of the first cell.

    Returns:
        (n,) heights in metres; NaN where none of the four cells has one.
    """
    column, row = np.floor(columns).astype(np.intp), np.floor(rows).astype(np.intp)
    right, below = columns - column, rows - row
    total, weight = np.zeros(len(columns)), np.zeros(len(columns))
    for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = np.abs(1 - across - right) * np.abs(1 - down - below)
        height = cells[row + down, column + across]
        held = np.isfinite(height)
        total += np.where(held, height, 0.0) * share
        weight += share * held
    with np.errstate(invalid="ignore"):  # 0 / 0 gives NaN
        return total / weight
