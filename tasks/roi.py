"""Regions of interest: which tiles a request's polygon asks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.errors import RequestError
from tasks.imagery import Image

_SEGMENTS = 256  # per extent: an edge that is straight on the ground may bend in pixels


@dataclass(frozen=True)
class RegionOfInterest:
    """A request's polygon in pixels of the full image.

    Attributes:
        area: The polygon or multipolygon, holes and all.
    """

    area: shapely.Geometry

    def wants(self, window: Window) -> bool:
        """Whether any part of a window lies inside."""
        left, top = window.col_off, window.row_off
        box = shapely.box(left, top, left + window.width, top + window.height)
        return bool(shapely.relate_pattern(self.area, box, "T********"))

    def contains(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of (n, 2) pixel positions lie inside or on the edge."""
        inside: NDArray[np.bool_] = shapely.intersects_xy(self.area, *points.T)
        return inside


def region_of_interest(wkt: str | None, image: Image) -> RegionOfInterest | None:
    """A request's `regionOfInterest` over an image; None where the whole image is asked for.

    Args:
        wkt: Polygon or multipolygon, longitude and latitude.
        image: The image, which must be georeferenced.

    Raises:
        RequestError: The image has no georeference, or lies wholly outside.
    """
    if wkt is None:
        return None
    if image.georeference is None:
        raise RequestError(
            f"regionOfInterest: {image.url} has no georeference to place it by; leave it out."
        )
    ground = shapely.from_wkt(wkt)
    west, south, east, north = ground.bounds
    ground = shapely.segmentize(ground, max(east - west, north - south) / _SEGMENTS)
    area = shapely.make_valid(shapely.transform(ground, image.georeference.to_image))
    roi = RegionOfInterest(area)
    shapely.prepare(area)
    if not roi.wants(Window(0, 0, image.width, image.height)):
        corners = np.array(
            [[0, 0], [image.width, 0], [image.width, image.height], [0, image.height]]
        )
        extent = shapely.MultiPoint(image.georeference.to_world(corners.astype(np.float64))).bounds
        raise RequestError(
            f"regionOfInterest: it spans {_text(ground.bounds)} and {image.url} spans "
            f"{_text(extent)} (west, south, east, north): they do not meet."
        )
    return roi


def _text(bounds: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6f}" for value in bounds)
