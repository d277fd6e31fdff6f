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
_ITERATIONS = 5  # each leaves a hundredth of the error, or less


class SiddGeoreference:
    """A product's own surface, on which its pixels were formed: no elevation model is needed.

    Rows and columns count from pixel centres.

    Attributes:
        kind: "sidd".
        text: "SIDD planar grid", or of which other kind.
    """

    kind = "sidd"

    def __init__(self, xml: Any, rows: int) -> None:  # noqa: ANN401 - lxml has no types
        name, self._grid = _grid_of(xml)
        footprint = [int(xml.findtext(f"{_FOOTPRINT}/{{*}}{axis}")) for axis in ("Row", "Col")]
        self.text = f"SIDD {name} grid{part_of(rows, footprint[0])}"
        self._centre = self._grid.geodetic(np.array([footprint]) / 2.0)[0]
        if not np.isfinite(self._centre).all():
            raise ValueError("its centre lies nowhere")

    def to_world(self, points: Points) -> Points:
        """Longitude, latitude (n, 2) of pixels x, y (n, 2)."""
        return by_chunks(self._places, points, np.empty(len(points)))

    def to_image(self, lonlat: Points) -> Points:
        """Pixels x, y (n, 2) of longitude, latitude (n, 2)."""
        return by_chunks(self._pixels, lonlat, np.full(len(lonlat), self._centre[2]))

    def _places(self, points: Points, _heights: NDArray[np.float64]) -> Points:
        lonlat = self._grid.geodetic(points[:, ::-1] - 0.5)[:, 1::-1].copy()
        lonlat[:, 0] = wrap_near(lonlat[:, 0], 0.0)
        return nan_where_not_finite(lonlat)

    def _pixels(self, lonlat: Points, heights: NDArray[np.float64]) -> Points:
        longitudes = wrap_near(lonlat[:, 0], self._centre[1])
        rows_columns = self._grid.pixels(np.stack([lonlat[:, 1], longitudes, heights], axis=1))
        return nan_where_not_finite(rows_columns[:, ::-1] + 0.5)


class _Plane:
    """A grid on a plane (PGD)."""

    def __init__(self, xml: Any) -> None:  # noqa: ANN401
        self._xml = xml

    def geodetic(self, rows_columns: Points) -> NDArray[np.float64]:
        """Latitude, longitude, height (n, 3) of rows and columns (n, 2)."""
        places = calculations.pgd_pixel_to_ecef(self._xml, rows_columns)
        return np.asarray(wgs84.cartesian_to_geodetic(places))

    def pixels(self, geodetic: NDArray[np.float64]) -> Points:
        """Rows and columns (n, 2) where the plumb lines of places (n, 3) meet the plane."""
        found = np.empty((len(geodetic), 2))
        for _ in range(_ITERATIONS):
            places = wgs84.geodetic_to_cartesian(geodetic)
            found = calculations.ecef_to_pgd_pixel(self._xml, places)
            geodetic = np.column_stack([geodetic[:, :2], self.geodetic(found)[:, 2]])
        return found


class _Degrees:
    """A grid over latitude and longitude, even (GGD) or by polynomials (PFGD)."""

    def __init__(self, xml: Any, there: Any, back: Any) -> None:  # noqa: ANN401
        self._xml, self._there, self._back = xml, there, back

    def geodetic(self, rows_columns: Points) -> NDArray[np.float64]:
        """Latitude, longitude, and a height that does not matter (n, 3) of rows and columns."""
        latlon = self._there(self._xml, rows_columns)[:, :2]
        return np.column_stack([latlon, np.zeros(len(latlon))])

    def pixels(self, geodetic: NDArray[np.float64]) -> Points:
        """Rows and columns (n, 2) of latitude, longitude, height (n, 3)."""
        return np.asarray(self._back(self._xml, geodetic[:, :2]))


def _grid_of(xml: Any) -> tuple[str, _Plane | _Degrees]:  # noqa: ANN401
    """A product's grid, and what it is called."""
    kind = calculations.get_coordinate_system_type(xml)
    if kind is CoordinateSystem.PGD:
        return "planar", _Plane(xml)
    if kind is CoordinateSystem.GGD:
        there, back = calculations.ggd_pixel_to_geodetic, calculations.geodetic_to_ggd_pixel
        return "geographic", _Degrees(xml, there, back)
    if kind is CoordinateSystem.PFGD:
        polynomials = calculations.pfgd_pixel_to_latlon, calculations.latlon_to_pfgd_pixel
        return "polynomial", _Degrees(xml, *polynomials)
    raise ValueError(f"its grid is {kind}")  # sarkit 1.8 takes radians for degrees in CGD
