"""The region of interest of a request: WKT, longitude and latitude in degrees (EPSG:4326)."""

from __future__ import annotations

import re
from typing import Annotated

import numpy as np
import shapely
from pydantic import AfterValidator

# Checked before parsing: GEOS overflows the stack on deeply nested collections
_POLYGON = re.compile(r"\s*(MULTI)?POLYGON\b", re.IGNORECASE)


def _check_polygon(text: str) -> str:
    """Check that a text is a valid polygon with positions on the globe.

    Raises:
        ValueError: It is not, with the position.
    """
    if not _POLYGON.match(text):
        raise ValueError(
            "is not a polygon; give WKT, POLYGON ((…)) or MULTIPOLYGON (((…))), longitude first"
        )
    try:
        with np.errstate(invalid="ignore"):  # NaN is refused below, with its position
            shape = shapely.from_wkt(text)
    except shapely.errors.ShapelyError as error:
        raise ValueError(f"is not well-formed WKT ({error}); correct it") from None
    if shape.is_empty:
        raise ValueError("is empty; leave the field out to process the whole image")
    _check_positions(shapely.get_coordinates(shape))
    if not shape.is_valid:
        reason = shapely.is_valid_reason(shape)
        raise ValueError(f"is not a valid polygon: {reason}; give rings that do not cross or touch")
    return text


def _check_positions(positions: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    """Check that positions, (n, 2) longitude and latitude, are finite and within range."""
    with np.errstate(invalid="ignore"):
        inside = (np.abs(positions) <= (180.0, 90.0)).all(axis=1)  # NaN compares false
    if inside.all():
        return
    longitude, latitude = positions[~inside][0].tolist()
    swapped = abs(longitude) <= 90 < abs(latitude) <= 180
    remedy = "longitude comes first" if swapped else "give degrees of EPSG:4326"
    raise ValueError(
        f"has the position {longitude:g} {latitude:g}, outside longitude -180 to 180 and latitude "
        f"-90 to 90; {remedy}"
    )


RegionOfInterestWkt = Annotated[str, AfterValidator(_check_polygon)]
