"""Conversion of a request's region of interest from the ground to pixels of the image."""

from __future__ import annotations

import numpy as np
import shapely
from rasterio.windows import Window

from tasks.errors import RequestError
from tasks.grid.roi import RegionOfInterest
from tasks.imagery import Georeference, Image
from tasks.imagery.georeference.transformers import wrap_near

_SEGMENTS = 256  # along the extent: edges that are straight on the ground may bend in pixels
_SAMPLES = 17  # rows and columns of points from which the extent of an image is taken
_TURNS = np.array([[-360.0, 0.0], [0.0, 0.0], [360.0, 0.0]])  # degrees longitude, latitude

Extent = tuple[float, float, float, float]  # west, south, east, north in degrees


def region_of_interest(wkt: str | None, image: Image) -> RegionOfInterest | None:
    """The region of interest of a request in pixels of an image; None for the whole image.

    Args:
        wkt: Polygon or multipolygon in longitude, latitude (EPSG:4326); None for the whole image.
        image: The image, which must be georeferenced.

    Raises:
        RequestError: The image has no georeference or lies wholly outside the polygon; or a part
            of the polygon close to the image has no pixel position.
    """
    if wkt is None:
        return None
    if image.georeference is None:
        raise RequestError(
            f"regionOfInterest: {image.url} has no georeference to place it by; leave it out."
        )
    ground, extent = shapely.from_wkt(wkt), _extent(image.georeference, image)
    area = _in_pixels(_around(ground, extent), image.georeference)
    if area is None:
        raise RequestError(
            f"regionOfInterest: a part of it has no pixel position in {image.url}, which spans "
            f"{_text(extent)} (west, south, east, north); name less ground around the image."
        )
    # a ring may cross itself after the transformation: keep the area, without lines
    area = shapely.make_valid(area, method="structure", keep_collapsed=False)
    shapely.prepare(area)
    roi = RegionOfInterest(area)
    if not roi.meets([Window(0, 0, image.width, image.height)]).all():
        raise RequestError(
            f"regionOfInterest: it spans {_text(ground.bounds)} and {image.url} spans "
            f"{_text(extent)} (west, south, east, north): they do not meet; "
            "give longitude and latitude, in this order."
        )
    return roi


def _extent(georeference: Georeference, image: Image) -> Extent:
    """The extent of an image; across the antimeridian, its longitudes continue beyond ±180°."""
    x, y = np.meshgrid(
        np.linspace(0, image.width, _SAMPLES), np.linspace(0, image.height, _SAMPLES)
    )
    positions = georeference.to_world(np.stack([x.ravel(), y.ravel()], axis=1))
    positions = positions[np.isfinite(positions).all(axis=1)]
    if not len(positions):
        raise RequestError(
            f"regionOfInterest: the georeference of {image.url} gives no valid position on "
            "Earth; leave the field out."
        )
    centre = positions[len(positions) // 2, 0]
    longitudes, latitudes = wrap_near(positions[:, 0], centre), positions[:, 1]
    west, east = longitudes.min(), longitudes.max()
    if east - west > 180:  # around a pole, or much of the globe
        west, east = centre - 180, centre + 180
    return float(west), float(latitudes.min()), float(east), float(latitudes.max())


def _around(ground: shapely.Geometry, extent: Extent) -> shapely.Geometry:
    """The part of a polygon inside and close to an extent, in longitudes of that extent.

    Far from the image, a map projection or a sensor model gives no pixel position, or a wrong one.
    """
    west, south, east, north = extent
    margin = max(east - west, north - south) / 8
    beside = min(margin, (360 - (east - west)) / 2)  # so that no point occurs twice
    closely = shapely.box(
        west - beside, max(-90, south - margin), east + beside, min(90, north + margin)
    )
    turns = [shapely.transform(ground, lambda p, turn=turn: p + turn) for turn in _TURNS]
    return shapely.union_all(shapely.intersection(turns, closely))


def _in_pixels(ground: shapely.Geometry, georeference: Georeference) -> shapely.Geometry | None:
    """A polygon on the ground in pixels, its edges densified so that they bend as in the image.

    None if there is no pixel position for a part of it.
    """
    if ground.is_empty:
        return ground
    west, south, east, north = ground.bounds
    ground = shapely.segmentize(ground, max(east - west, north - south) / _SEGMENTS)
    with np.errstate(invalid="ignore"):  # infinite if the projection is undefined
        positions = georeference.to_image(shapely.get_coordinates(ground))
    return shapely.set_coordinates(ground, positions) if np.isfinite(positions).all() else None


def _text(bounds: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6f}" for value in bounds)
