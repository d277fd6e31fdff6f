"""Coordinates of features with no more decimals than the image's pixels need."""

from __future__ import annotations

from functools import partial
from math import ceil, log10
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from tasks.publish.features import Features
from tasks.publish.geometries import Geometries
from tasks.publish.geometry_text import geojson, polygons
from tasks.publish.quadrilaterals import are_quadrilaterals, orientations, rings_of

_DECIMALS = 7  # of a degree: 11 mm
_FINE_PIXEL = 0.1  # metres, below which 7 decimals would be more than about a tenth of a pixel
_FURTHER = 3  # decimals, for a geometry that the rounding would make invalid


class Rounded(NamedTuple):
    """The geometries of features as they are written.

    Attributes:
        geometry: (n,) GeoJSON, or None if a feature has no geometry.
        bboxes: (n, 4) as in `Features`.
        centers: (n, 2) as in `Features`.
    """

    geometry: NDArray[np.object_]
    bboxes: NDArray[np.float64]
    centers: NDArray[np.float64]


def decimals_for(pixel_metres: float | None) -> int:
    """Decimals of a degree that tell a tenth of a pixel, at least 7.

    Args:
        pixel_metres: Size of a pixel on the ground; None if it is unknown.
    """
    if pixel_metres is None or pixel_metres >= _FINE_PIXEL:
        return _DECIMALS
    return _DECIMALS + ceil(log10(_FINE_PIXEL / pixel_metres) - 1e-9)


def rounded(features: Features, decimals: int) -> Rounded:
    """Features with coordinates of some decimals of a degree.

    A feature whose geometry that would make invalid, such as a small outline in pixels of a
    centimetre, has three more decimals, or all digits if these do not keep it valid either.
    """
    rings, bboxes, centers = features.world.rings, features.bboxes, features.centers
    if rings is not None and (orientations(short := _round(rings, decimals)) > 0).all():
        return Rounded(polygons(short), _round(bboxes, decimals), _round(centers, decimals))
    geometry = features.geometry
    texts: NDArray[np.object_] = np.full(len(features), None, dtype=object)
    bboxes, centers = bboxes.copy(), centers.copy()

    def write(rows: NDArray[np.intp], as_geojson: NDArray[np.object_], digits: int) -> None:
        texts[rows] = as_geojson
        bboxes[rows] = _round(features.bboxes[rows], digits)
        centers[rows] = _round(features.centers[rows], digits)

    quads = np.flatnonzero(are_quadrilaterals(geometry))
    short = _round(rings_of(geometry, quads), decimals)
    sound = orientations(short) > 0
    write(quads[sound], polygons(short[sound]), decimals)
    left = np.setdiff1d(np.flatnonzero(~features.world.missing), quads[sound])
    for digits in (decimals, decimals + _FURTHER):
        shorter = shapely.transform(geometry[left], partial(_round, decimals=digits))
        valid = shapely.is_valid(shorter)
        shorter = shapely.orient_polygons(shorter[valid], exterior_cw=False)
        write(left[valid], geojson(Geometries(shorter)), digits)
        left = left[~valid]
    texts[left] = geojson(Geometries(geometry[left]))
    return Rounded(texts, bboxes, centers)


def _round(degrees: NDArray[np.float64], decimals: int) -> NDArray[np.float64]:
    return np.round(degrees, decimals) + 0.0  # no negative zero
