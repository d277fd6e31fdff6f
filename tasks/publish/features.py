"""Detections as geolocated features: each with a geometry, a centre and a bounding box."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from tasks.imagery import Georeference
from tasks.imagery.georeference.transformers import nan_where_not_finite, wrap_near
from tasks.publish import antimeridian
from tasks.publish.densify import MIN_WIDTH, densify
from tasks.publish.quadrilaterals import (
    all_rings,
    are_quadrilaterals,
    orientations,
    vertex_numbers,
)
from tasks.publish.validity import repair
from tasks.results.detections import boxes


@dataclass(frozen=True)
class Features:
    """A table of n detections with their geometries, each of which is valid and not empty.

    Attributes:
        table: Table of `detections.SCHEMA`.
        image_geometry: (n,) shapely geometries in pixels of the full image: the model's geometry,
            or the box if the model gave none. A box without an area is a line or a point.
        geometry: (n,) the same in longitude, latitude (EPSG:4326), exterior rings
            counter-clockwise, cut at the antimeridian; None if a vertex has no longitude and
            latitude. Edges are straight in degrees (RFC 7946 §3.1.1), and have more vertices where
            an edge that is straight in the image would be visibly off.
        centers: (n, 2) longitude, latitude of the centroid in pixels; NaN where geometry is None.
        bboxes: (n, 4) west, south, east, north; west > east across the antimeridian; NaN where
            geometry is None.
        repaired: (n,) whether a geometry was invalid, as the model gave it or in longitude and
            latitude, and was changed to a valid one.
    """

    table: pa.Table
    image_geometry: NDArray[np.object_]
    geometry: NDArray[np.object_]
    centers: NDArray[np.float64]
    bboxes: NDArray[np.float64]
    repaired: NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of features."""
        return len(self.geometry)

    @cached_property
    def image_rings(self) -> NDArray[np.float64] | None:
        """(n, 5, 2) the rings of `image_geometry` if all are quadrilaterals, as boxes are."""
        return all_rings(self.image_geometry)

    @cached_property
    def rings(self) -> NDArray[np.float64] | None:
        """The same of `geometry`."""
        return all_rings(self.geometry)


def geolocate(table: pa.Table, georeference: Georeference | None) -> Features:
    """Geolocate detections, all vertices at once.

    Args:
        table: Detections, `detections.SCHEMA`, in pixels of the full image.
        georeference: The image's georeference; without one every geometry is None.
    """
    image_geometry, repaired = _image_geometry(table)
    world = to_world(image_geometry, georeference)
    repaired |= world.repaired
    return Features(table, image_geometry, world.geometry, world.centers, world.bboxes, repaired)


class WorldGeometries(NamedTuple):
    """Geometries in longitude and latitude: the attributes of that name in `Features`."""

    geometry: NDArray[np.object_]
    centers: NDArray[np.float64]
    bboxes: NDArray[np.float64]
    repaired: NDArray[np.bool_]


def to_world(
    image_geometry: NDArray[np.object_], georeference: Georeference | None
) -> WorldGeometries:
    """Geometries of an image in longitude and latitude, all vertices at once.

    Args:
        image_geometry: (n,) valid geometries in pixels of the full image.
        georeference: The image's georeference, or None.
    """
    count = len(image_geometry)
    geometry: NDArray[np.object_] = np.full(count, None, dtype=object)
    centers, bboxes = np.full((count, 2), np.nan), np.full((count, 4), np.nan)
    if georeference is None or count == 0:
        return WorldGeometries(geometry, centers, bboxes, np.zeros(count, dtype=bool))
    points, owners = shapely.get_coordinates(image_geometry, return_index=True)
    middles = shapely.get_coordinates(shapely.centroid(image_geometry))
    world = np.array(georeference.to_world(np.concatenate([points, middles])), dtype=np.float64)
    nan_where_not_finite(world)
    vertices, middles = world[: len(points)], world[len(points) :]
    located = ~np.isnan(middles[:, 0])
    located[owners[np.isnan(vertices[:, 0])]] = False
    middles[:, 0] = wrap_near(middles[:, 0], 0.0)
    vertices[:, 0] = wrap_near(vertices[:, 0], middles[owners, 0])
    sound = _turn_counterclockwise(image_geometry, vertices)
    centers[located] = middles[located]
    geometry[located] = shapely.set_coordinates(image_geometry[located], vertices[located[owners]])
    bboxes[located] = shapely.bounds(geometry[located])
    wide = np.flatnonzero(bboxes[:, 2] - bboxes[:, 0] > MIN_WIDTH)
    geometry[wide] = densify(image_geometry[wide], geometry[wide], georeference)
    bboxes[wide] = shapely.bounds(geometry[wide])
    crossing = _may_cross(bboxes)
    for row in np.flatnonzero(crossing):
        geometry[row] = antimeridian.split(geometry[row])
    others, repaired = np.flatnonzero(~sound), np.zeros(count, dtype=bool)
    valid, repaired[others] = repair(geometry[others])
    geometry[others] = shapely.orient_polygons(valid, exterior_cw=False)
    bboxes[repaired] = shapely.bounds(geometry[repaired])
    for row in np.flatnonzero(crossing):
        bboxes[row] = antimeridian.bounds(geometry[row])
    return WorldGeometries(geometry, centers, bboxes, repaired)


def _turn_counterclockwise(
    image_geometry: NDArray[np.object_], vertices: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Turn quadrilaterals that are convex on the Earth, and neither wide nor over ±180, in place.

    Args:
        image_geometry: (n,) in pixels.
        vertices: Longitude and latitude of all their vertices, NaN if it has none.

    Returns:
        (n,) which geometries are such quadrilaterals: valid, and now counter-clockwise.
    """
    rows = np.flatnonzero(are_quadrilaterals(image_geometry))
    numbers = vertex_numbers(image_geometry, rows)
    rings = vertices[numbers]
    longitudes = np.ascontiguousarray(rings[:, :, 0].T)  # NumPy is slow with short rows
    west, east = longitudes.min(axis=0), longitudes.max(axis=0)
    simple = (west >= -180) & (east <= 180) & (east - west <= MIN_WIDTH)
    turns = np.where(simple, orientations(rings), 0)
    clockwise = numbers[turns < 0]
    vertices[clockwise] = vertices[clockwise[:, ::-1]]
    sound: NDArray[np.bool_] = np.zeros(len(image_geometry), dtype=bool)
    sound[rows] = turns != 0
    return sound


def _may_cross(bboxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which boxes reach beyond −180 to 180, or are wide enough to hold a pole."""
    west, east = bboxes[:, 0], bboxes[:, 2]
    crossing: NDArray[np.bool_] = (west < -180) | (east > 180) | (east - west > 180)
    return crossing


def _image_geometry(table: pa.Table) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """(n,) valid geometries in pixels, and (n,) whether the model's own one had to be repaired."""
    own = shapely.force_2d(shapely.from_wkb(table["geometry"].to_numpy()))
    absent = shapely.is_missing(own) | shapely.is_empty(own)
    x_min, y_min, x_max, y_max = boxes(table).T
    geometry = own
    geometry[absent] = shapely.box(x_min[absent], y_min[absent], x_max[absent], y_max[absent])
    to_check = np.flatnonzero(~(absent & (x_min < x_max) & (y_min < y_max)))
    repaired = np.zeros(len(table), dtype=bool)
    geometry[to_check], repaired[to_check] = repair(geometry[to_check])
    return geometry, repaired & ~absent
