"""Georeference by a SIDD's pixel grid (NGA.STND.0025-1), by sarkit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sarkit import wgs84
from sarkit.sidd import calculations
from sarkit.sidd.calculations import CoordinateSystem

from tasks.imagery.georeference.sicd import by_chunks, part_of
from tasks.imagery.georeference.transformers import Points, nan_where_not_finite, wrap_near

_FOOTPRINT = "{*}Measurement/{*}PixelFootprint"
_ITERATIONS = 5  # each reduces the error to a hundredth or less


class SiddGeoreference:
    """The pixel grid of a product on the product's own surface, without an elevation model.

    Rows and columns have their origin at the centre of the first pixel.

    Attributes:
        kind: "sidd".
        text: "SIDD planar grid", "SIDD geographic grid" or "SIDD polynomial grid".
    """

    kind = "sidd"

    def __init__(self, xml: Any, rows: int) -> None:  # noqa: ANN401 - lxml has no types
        name, self._grid = _grid_of(xml)
        footprint = [int(xml.findtext(f"{_FOOTPRINT}/{{*}}{axis}")) for axis in ("Row", "Col")]
        self.text = f"SIDD {name} grid{part_of(rows, footprint[0])}"
        self._centre = self._grid.geodetic(np.array([footprint]) / 2.0)[0]
        if not np.isfinite(self._centre).all():
            raise ValueError("its centre has no position on the ground")

    def to_world(self, points: Points) -> Points:
        """Convert pixels x, y (n, 2) to longitude, latitude (n, 2)."""
        return by_chunks(self._lonlat, points, np.empty(len(points)))

    def to_image(self, lonlat: Points) -> Points:
        """Convert longitude, latitude (n, 2) to pixels x, y (n, 2)."""
        return by_chunks(self._pixels, lonlat, np.full(len(lonlat), self._centre[2]))

    def _lonlat(self, points: Points, _heights: NDArray[np.float64]) -> Points:
        lonlat = self._grid.geodetic(points[:, ::-1] - 0.5)[:, 1::-1].copy()
        lonlat[:, 0] = wrap_near(lonlat[:, 0], 0.0)
        return nan_where_not_finite(lonlat)

    def _pixels(self, lonlat: Points, heights: NDArray[np.float64]) -> Points:
        longitudes = wrap_near(lonlat[:, 0], self._centre[1])
        rows_columns = self._grid.pixels(np.stack([lonlat[:, 1], longitudes, heights], axis=1))
        return nan_where_not_finite(rows_columns[:, ::-1] + 0.5)


class _PlanarGrid:
    """A grid on a plane (PGD)."""

    def __init__(self, xml: Any) -> None:  # noqa: ANN401
        self._xml = xml

    def geodetic(self, rows_columns: Points) -> NDArray[np.float64]:
        """Latitude, longitude, height (n, 3) of rows and columns (n, 2)."""
        positions = calculations.pgd_pixel_to_ecef(self._xml, rows_columns)
        return np.asarray(wgs84.cartesian_to_geodetic(positions))

    def pixels(self, geodetic: NDArray[np.float64]) -> Points:
        """Rows and columns (n, 2) where the vertical lines through points (n, 3) meet the plane."""
        found = np.empty((len(geodetic), 2))
        for _ in range(_ITERATIONS):
            positions = wgs84.geodetic_to_cartesian(geodetic)
            found = calculations.ecef_to_pgd_pixel(self._xml, positions)
            geodetic = np.column_stack([geodetic[:, :2], self.geodetic(found)[:, 2]])
        return found


class _GeographicGrid:
    """A grid over latitude and longitude: regular (GGD) or defined by polynomials (PFGD)."""

    def __init__(self, xml: Any, to_latlon: Any, to_pixels: Any) -> None:  # noqa: ANN401
        self._xml, self._to_latlon, self._to_pixels = xml, to_latlon, to_pixels

    def geodetic(self, rows_columns: Points) -> NDArray[np.float64]:
        """Latitude, longitude and an unused height (n, 3) of rows and columns (n, 2)."""
        latlon = self._to_latlon(self._xml, rows_columns)[:, :2]
        return np.column_stack([latlon, np.zeros(len(latlon))])

    def pixels(self, geodetic: NDArray[np.float64]) -> Points:
        """Rows and columns (n, 2) of latitude, longitude, height (n, 3)."""
        return np.asarray(self._to_pixels(self._xml, geodetic[:, :2]))


def _grid_of(xml: Any) -> tuple[str, _PlanarGrid | _GeographicGrid]:  # noqa: ANN401
    """The name and the grid of a product.

    Raises:
        ValueError: The product has a grid of another kind.
    """
    kind = calculations.get_coordinate_system_type(xml)
    if kind is CoordinateSystem.PGD:
        return "planar", _PlanarGrid(xml)
    if kind is CoordinateSystem.GGD:
        functions = calculations.ggd_pixel_to_geodetic, calculations.geodetic_to_ggd_pixel
        return "geographic", _GeographicGrid(xml, *functions)
    if kind is CoordinateSystem.PFGD:
        polynomials = calculations.pfgd_pixel_to_latlon, calculations.latlon_to_pfgd_pixel
        return "polynomial", _GeographicGrid(xml, *polynomials)
    raise ValueError(
        f"its grid is {kind}"
    )  # such as CGD, for which sarkit 1.8 confuses radians and degrees
