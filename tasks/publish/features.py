"""Detections as features of the world: each with a geometry, a centre and a bbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from tasks.publish import antimeridian
from tasks.publish.bends import WIDE, bent
from tasks.results.detections import boxes


class Georeference(Protocol):
    """What places pixels of an image on the Earth."""

    def to_world(self, points: NDArray[np.float64], /) -> NDArray[np.float64]:
        """Longitude, latitude (n, 2) of pixels x, y (n, 2); not finite where there is no ground."""


@dataclass(frozen=True)
class Features:
    """A table of detections, and where on the Earth each one is.

    Attributes:
        table: `detections.SCHEMA`, n rows.
        image_geometry: (n,) shapely geometries in pixels of the full image: the model's, or its
            box where it gave none.
        geometry: (n,) the same in longitude, latitude (EPSG:4326), exterior rings
            counter-clockwise, cut at the antimeridian; None where a vertex has no place on the
            ground. Vertices are exact; between them an edge is straight in degrees (RFC 7946
            §3.1.1), and has more vertices where the image's would bend visibly.
        centers: (n, 2) longitude, latitude of the centroid in pixels; NaN where geometry is None.
        bboxes: (n, 4) west, south, east, north; west > east over the antimeridian; NaN likewise.
    """

    table: pa.Table
    image_geometry: NDArray[np.object_]
    geometry: NDArray[np.object_]
    centers: NDArray[np.float64]
    bboxes: NDArray[np.float64]

    def __len__(self) -> int:
        """Features."""
        return len(self.geometry)


def geolocate(table: pa.Table, georeference: Georeference | None) -> Features:
    """Place detections on the Earth, all vertices at once.

    Args:
        table: Detections, `detections.SCHEMA`, in pixels of the full image.
        georeference: Of the image; None where it has none, and then no feature has a place.
    """
    image_geometry = _image_geometry(table)
    geometry, centers, bboxes = place(image_geometry, georeference)
    return Features(table, image_geometry, geometry, centers, bboxes)


def place(
    image_geometry: NDArray[np.object_], georeference: Georeference | None
) -> tuple[NDArray[np.object_], NDArray[np.float64], NDArray[np.float64]]:
    """Where on the Earth geometries of an image are, all vertices at once.

    Args:
        image_geometry: (n,) shapely geometries in pixels of the full image.
        georeference: Of the image, or None.

    Returns:
        `geometry`, `centers` and `bboxes` of `Features`.
    """
    count = len(image_geometry)
    geometry: NDArray[np.object_] = np.full(count, None, dtype=object)
    centers, bboxes = np.full((count, 2), np.nan), np.full((count, 4), np.nan)
    if georeference is None or count == 0:
        return geometry, centers, bboxes
    points, owners = shapely.get_coordinates(image_geometry, return_index=True)
    middles = shapely.get_coordinates(shapely.centroid(image_geometry))
    world = np.array(georeference.to_world(np.concatenate([points, middles])), dtype=np.float64)
    world[~np.isfinite(world).all(axis=1)] = np.nan
    vertices, middles = world[: len(points)], world[len(points) :]
    placed = ~np.isnan(middles[:, 0])
    placed[owners[np.isnan(vertices[:, 0])]] = False
    middles[:, 0] = antimeridian.unwrap(middles[:, 0], 0.0)
    vertices[:, 0] = antimeridian.unwrap(vertices[:, 0], middles[owners, 0])
    centers[placed] = middles[placed]
    geometry[placed] = shapely.set_coordinates(image_geometry[placed], vertices[placed[owners]])
    bboxes[placed] = shapely.bounds(geometry[placed])
    wide = np.flatnonzero(bboxes[:, 2] - bboxes[:, 0] > WIDE)
    geometry[wide] = bent(image_geometry[wide], geometry[wide], georeference)
    bboxes[wide] = shapely.bounds(geometry[wide])
    for row in np.flatnonzero(_crossing(bboxes)):
        geometry[row] = antimeridian.split(geometry[row])
        bboxes[row] = antimeridian.bounds(geometry[row])
    return shapely.orient_polygons(geometry, exterior_cw=False), centers, bboxes


def _crossing(bboxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which boxes leave −180 to 180 or, wide enough to hold a pole, must be looked at."""
    west, east = bboxes[:, 0], bboxes[:, 2]
    crossing: NDArray[np.bool_] = (west < -180) | (east > 180) | (east - west > 180)
    return crossing


def _image_geometry(table: pa.Table) -> NDArray[np.object_]:
    """(n,) geometries in pixels: the model's, or the box where it gave none."""
    own = shapely.force_2d(shapely.from_wkb(table["geometry"].to_numpy()))
    absent = shapely.is_missing(own) | shapely.is_empty(own)
    geometry: NDArray[np.object_] = np.where(absent, shapely.box(*boxes(table).T), own)
    return geometry
