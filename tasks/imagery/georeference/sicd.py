"""Georeference by a SICD's sensor model (NGA.STND.0024-3, Image Projections), by sarkit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sarkit import wgs84
from sarkit.sicd import projection

from tasks.imagery.georeference.ground import ground_of
from tasks.imagery.georeference.transformers import Points, nan_where_not_finite, wrap_near

_TOLERANCE = 1e-4  # metres at which sarkit's iterations stop
_ITERATIONS = 20
_CHUNK = 1 << 15  # points at once: sarkit allocates about thirty arrays of that length
_MARGIN = 0.3  # degrees of latitude around an image, wide enough for the layover of a mountain


class SicdGeoreference:
    """Projects the range and range rate of each pixel to the ground.

    The ground is the elevation model if one is set, otherwise the height of the scene centre
    point. SICD rows and columns have their origin at the centre of the first pixel of the full
    image, also in a chip.

    Attributes:
        kind: "sicd".
        text: Such as "SICD sensor model at 31 m" or "SICD sensor model over s3://dem/world.vrt".
    """

    kind = "sicd"

    def __init__(self, xml: Any, rows: int, dem_uri: str | None = None) -> None:  # noqa: ANN401
        self._model = projection.MetadataParams.from_xml(xml)
        offsets = projection.AdjustableParameterOffsets
        self._offsets = offsets.from_xml(xml) if offsets.exists(xml) else None
        model = self._model
        self._ground = ground_of(float(model.SCP_HAE), dem_uri, self._extent())
        self.text = f"SICD sensor model {self._ground.text}{part_of(rows, model.NumRows)}"

    def to_world(self, points: Points) -> Points:
        """Convert pixels x, y (n, 2) to longitude, latitude (n, 2)."""
        return self._ground.intersect(self._at, points)

    def to_image(self, lonlat: Points) -> Points:
        """Convert longitude, latitude (n, 2) to pixels x, y (n, 2)."""
        return by_chunks(self._pixels, lonlat, self._ground.heights(lonlat))

    def _at(self, points: Points, heights: NDArray[np.float64]) -> Points:
        return by_chunks(self._lonlat, points, heights)

    def _lonlat(self, points: Points, heights: NDArray[np.float64]) -> Points:
        model = self._model
        rows = points[:, 1] - 0.5 + model.FirstRow - model.SCP_Row
        columns = points[:, 0] - 0.5 + model.FirstCol - model.SCP_Col
        grid = np.stack([rows * model.Row_SS, columns * model.Col_SS], axis=1)
        sets = projection.compute_projection_sets(model, grid)
        if self._offsets is not None:
            sets = projection.apply_apos(model, sets, self._offsets)
        positions, _, _ = projection.r_rdot_to_constant_hae_surface(
            model.LOOK, model.SCP, sets, heights, delta_hae_max=_TOLERANCE, nlim=_ITERATIONS
        )
        return lonlat_of(positions)

    def _pixels(self, lonlat: Points, heights: NDArray[np.float64]) -> Points:
        model = self._model
        positions = wgs84.geodetic_to_cartesian(
            np.stack([lonlat[:, 1], lonlat[:, 0], heights], axis=1)
        )
        grid, distance, _ = projection.scene_to_image(
            model,
            positions,
            adjust_param_offsets=self._offsets,
            delta_gp_s2i=_TOLERANCE,
            maxiter=_ITERATIONS,
        )
        rows = grid[:, 0] / model.Row_SS + model.SCP_Row - model.FirstRow + 0.5
        columns = grid[:, 1] / model.Col_SS + model.SCP_Col - model.FirstCol + 0.5
        pixels = np.stack([columns, rows], axis=1)
        pixels[~(distance < 10 * _TOLERANCE)] = np.nan
        return pixels

    def _extent(self) -> tuple[float, float, float, float]:
        """West, south, east, north around the image, with a margin."""
        model = self._model
        corners = np.array([[x, y] for x in (0, model.NumCols) for y in (0, model.NumRows)], float)
        lonlat = self._at(corners, np.full(4, float(model.SCP_HAE)))
        longitudes, latitudes = wrap_near(lonlat[:, 0], float(model.SCP_Lon)), lonlat[:, 1]
        if not np.isfinite(lonlat).all():
            raise ValueError("its corners have no position on the ground")
        margin = _MARGIN / max(np.cos(np.deg2rad(np.abs(latitudes).max())), 0.01)
        return (
            float(longitudes.min() - margin),
            float(max(latitudes.min() - _MARGIN, -90)),
            float(longitudes.max() + margin),
            float(min(latitudes.max() + _MARGIN, 90)),
        )


def part_of(rows: int, of_all: int) -> str:
    """A remark if an image has only the first `rows` of the `of_all` rows of its model; else ""."""
    return "" if rows >= of_all else f", the first {rows} of {of_all} rows"


def lonlat_of(positions: NDArray[np.float64]) -> Points:
    """Convert WGS 84 Cartesian coordinates (n, 3) in metres to longitude, latitude (n, 2)."""
    return nan_where_not_finite(wgs84.cartesian_to_geodetic(positions)[:, 1::-1].copy())


def by_chunks(
    project: Callable[[Points, NDArray[np.float64]], Points],
    points: Points,
    heights: NDArray[np.float64],
) -> Points:
    """Project points (n, 2) at heights (n,) in chunks, so that memory does not grow with n."""
    projected = np.full(points.shape, np.nan)
    with np.errstate(all="ignore"):  # a point that cannot be converted becomes NaN
        for start in range(0, len(points), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            projected[chunk] = project(points[chunk], heights[chunk])
    return projected
