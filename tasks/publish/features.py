"""Detections as geolocated features: each with a geometry, a centre and a bounding box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from tasks.imagery import Georeference
from tasks.imagery.georeference.transformers import nan_where_not_finite, wrap_near
from tasks.publish import antimeridian
from tasks.publish.densify import MIN_WIDTH, densify
from tasks.publish.geometries import Geometries
from tasks.publish.geometry_wkb import rings_of_wkb
from tasks.publish.quadrilaterals import (
    are_quadrilaterals,
    bounds_of,
    boxes_as_rings,
    centroids_of,
    orientations,
    turned,
    vertex_numbers,
)
from tasks.publish.validity import repair
from tasks.results.detections import boxes


@dataclass(frozen=True)
class Features:
    """A table of n detections with their geometries, each of which is valid and not empty.

    Attributes:
        table: Table of `detections.SCHEMA`.
        image: Geometries in pixels of the full image: the model's, or the box if the model gave
            none. A box without an area is a line or a point.
        world: The same in longitude, latitude (EPSG:4326), exterior rings counter-clockwise, cut at
            the antimeridian; None if a vertex has no longitude and latitude. Edges are straight in
            degrees (RFC 7946 §3.1.1), and have more vertices where an edge that is straight in the
            image would be visibly off.
        centers: (n, 2) longitude, latitude of the centroid in pixels; NaN where `world` is None.
        bboxes: (n, 4) west, south, east, north; west > east across the antimeridian; NaN where
            `world` is None.
        repaired: (n,) whether a geometry was invalid, as the model gave it or in longitude and
            latitude, and was changed to a valid one.
    """

    table: pa.Table
    image: Geometries
    world: Geometries
    centers: NDArray[np.float64]
    bboxes: NDArray[np.float64]
    repaired: NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of features."""
        return len(self.world)

    @property
    def image_geometry(self) -> NDArray[np.object_]:
        """(n,) `image` as shapely's geometries."""
        return self.image.shapes

    @property
    def geometry(self) -> NDArray[np.object_]:
        """(n,) `world` as shapely's geometries."""
        return self.world.shapes


def geolocate(table: pa.Table, georeference: Georeference | None) -> Features:
    """Geolocate detections, all vertices at once.

    Args:
        table: Detections, `detections.SCHEMA`, in pixels of the full image.
        georeference: The image's georeference; without one every geometry is None.
    """
    image, repaired = _image_geometries(table)
    world = None
    if image.rings is not None and georeference is not None:
        world = _quadrilaterals_to_world(image.rings, georeference)
    if world is None:
        world = to_world(image, georeference)
    return Features(
        table, image, world.geometries, world.centers, world.bboxes, repaired | world.repaired
    )


class WorldGeometries(NamedTuple):
    """Geometries in longitude and latitude: the attributes of that name in `Features`."""

    geometries: Geometries
    centers: NDArray[np.float64]
    bboxes: NDArray[np.float64]
    repaired: NDArray[np.bool_]


def to_world(image: Geometries, georeference: Georeference | None) -> WorldGeometries:
    """Geometries of an image in longitude and latitude, all vertices at once.

    Args:
        image: (n,) valid geometries in pixels of the full image.
        georeference: The image's georeference, or None.
    """
    count = len(image)
    geometry: NDArray[np.object_] = np.full(count, None, dtype=object)
    centers, bboxes = np.full((count, 2), np.nan), np.full((count, 4), np.nan)
    if georeference is None or count == 0:
        return WorldGeometries(Geometries(geometry), centers, bboxes, np.zeros(count, dtype=bool))
    image_geometry = image.shapes
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
    return WorldGeometries(Geometries(geometry), centers, bboxes, repaired)


def _quadrilaterals_to_world(
    rings: NDArray[np.float64], georeference: Georeference
) -> WorldGeometries | None:
    """The same of rings (n, 5, 2) alone, as far as that is plain arithmetic.

    Returns:
        None if one of them has no place on the Earth, is wide there, beyond ±180, or not convex.
    """
    count = len(rings)
    points = np.concatenate([rings[:, :4].reshape(-1, 2), centroids_of(rings)])
    world = np.array(georeference.to_world(points), dtype=np.float64)
    nan_where_not_finite(world)
    middles = world[4 * count :]
    middles[:, 0] = wrap_near(middles[:, 0], 0.0)
    corners = world[: 4 * count].reshape(count, 4, 2)
    corners[:, :, 0] = wrap_near(corners[:, :, 0], middles[:, :1])
    placed = np.concatenate([corners, corners[:, :1]], axis=1)
    turns = orientations(placed)
    bboxes = bounds_of(placed)
    if not (_are_narrow(bboxes) & (turns != 0)).all() or np.isnan(middles).any():
        return None
    geometries = Geometries.of_rings(turned(placed, turns))
    return WorldGeometries(geometries, middles, bboxes, np.zeros(count, bool))


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
    turns = np.where(_are_narrow(bounds_of(rings)), orientations(rings), 0)
    clockwise = numbers[turns < 0]
    vertices[clockwise] = vertices[clockwise[:, ::-1]]
    sound: NDArray[np.bool_] = np.zeros(len(image_geometry), dtype=bool)
    sound[rows] = turns != 0
    return sound


def _are_narrow(bboxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which boxes lie within −180 to 180, and are too narrow for curved edges."""
    west, east = bboxes[:, 0], bboxes[:, 2]
    narrow: NDArray[np.bool_] = (west >= -180) & (east <= 180) & (east - west <= MIN_WIDTH)
    return narrow


def _may_cross(bboxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which boxes reach beyond −180 to 180, or are wide enough to hold a pole."""
    west, east = bboxes[:, 0], bboxes[:, 2]
    crossing: NDArray[np.bool_] = (west < -180) | (east > 180) | (east - west > 180)
    return crossing


def _image_geometries(table: pa.Table) -> tuple[Geometries, NDArray[np.bool_]]:
    """Valid geometries in pixels, and (n,) whether the model's own one had to be repaired."""
    repaired = np.zeros(len(table), dtype=bool)
    if (rings := _convex_rings(table)) is not None:
        return Geometries.of_rings(rings), repaired
    own = shapely.force_2d(shapely.from_wkb(table["geometry"].to_numpy()))
    absent = shapely.is_missing(own) | shapely.is_empty(own)
    x_min, y_min, x_max, y_max = boxes(table).T
    geometry = own
    geometry[absent] = shapely.box(x_min[absent], y_min[absent], x_max[absent], y_max[absent])
    to_check = np.flatnonzero(~(absent & (x_min < x_max) & (y_min < y_max)))
    geometry[to_check], repaired[to_check] = repair(geometry[to_check])
    return Geometries(geometry), repaired & ~absent


def _convex_rings(table: pa.Table) -> NDArray[np.float64] | None:
    """(n, 5, 2) the rings of boxes and of convex quadrilaterals; None if there is anything else."""
    rings, own = boxes_as_rings(boxes(table)), table["geometry"].combine_chunks()
    if own.null_count < len(own):
        given = rings_of_wkb(own.drop_null())
        if given is None:
            return None
        rings[own.is_valid().to_numpy(zero_copy_only=False)] = given
    return rings if len(rings) and orientations(rings).all() else None
