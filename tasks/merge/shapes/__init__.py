"""What detections show of their objects, such that any two of them can be laid over each other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import ArrayLike, NDArray

from tasks.grid.tiles import Grid
from tasks.merge.shapes.parts import Parts, convex_parts, runs, valid
from tasks.results.detections import boxes

PEN = 8.0
"""Pixels to each side that a pen draws of points and lines, for them to overlap."""

CHUNK = 1 << 14  # detections whose geometries are in memory at once


@dataclass(frozen=True)
class Shapes:
    """n shapes, each an upright box or a surface of convex parts that do not overlap.

    Attributes:
        bounds: (n, 4) float64, x_min, y_min, x_max, y_max in pixels of the full image.
        areas: (n,) px².
        parts: (n + 1,) int64: the parts of shape i are parts[i] to parts[i + 1]; none where it is
            the upright box of its bounds.
        corners: (p + 1,) int64: the corners of part k are points[corners[k]:corners[k + 1]].
        points: (m, 2) float64 x, y, counter-clockwise in x right, y up; parts are not closed, begin
            at their leftmost corner, and within a shape follow each other from left to right.
    """

    bounds: NDArray[np.float64]
    areas: NDArray[np.float64]
    parts: NDArray[np.int64]
    corners: NDArray[np.int64]
    points: NDArray[np.float64]

    def __len__(self) -> int:
        """Shapes."""
        return len(self.bounds)

    @cached_property
    def upright(self) -> bool:
        """Whether all are upright boxes."""
        return not len(self.points)

    @classmethod
    def boxes(cls, boxes: ArrayLike) -> Shapes:
        """Upright boxes as shapes."""
        bounds = np.ascontiguousarray(boxes, np.float64).reshape(-1, 4)
        areas = (bounds[:, 2] - bounds[:, 0]) * (bounds[:, 3] - bounds[:, 1])
        none = np.zeros(len(bounds) + 1, np.int64)
        return cls(bounds, areas, none, np.zeros(1, np.int64), np.empty((0, 2)))

    def take(self, places: NDArray[np.int64]) -> Shapes:
        """The shapes at some places, in that order."""
        parts, ends = runs(self.parts, places)
        points, corners = runs(self.corners, parts)
        return Shapes(self.bounds[places], self.areas[places], ends, corners, self.points[points])

    def least_common_side(self, iou_threshold: float) -> float:
        """Share s such that two shapes of an IoU over a threshold have common bounds to match.

        Their bounds have over s of the longer width in common, and over s of the longer height.
        For upright boxes s is the threshold t itself. A convex shape has at most 2s − s² of its
        area where s of its width is (a triangle has), so s = 1 − √(1 − t). Others promise nothing.
        """
        if self.upright:
            return iou_threshold
        if np.diff(self.parts).max() > 1:
            return 0.0
        return 1 - float(np.sqrt(1 - iou_threshold))

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """The arrays, as the compiled functions of `tasks.merge.shapes.overlap` take them."""
        return self.bounds, self.areas, self.parts, self.corners, self.points


def shapes_of(table: pa.Table, grid: Grid) -> Shapes:
    """What each detection shows of its object, for overlaps; what is published stays as it is.

    - Where the model gave only a box, the box.
    - Polygons: their surface, less their holes and what lies outside of the detection's own tile,
      for that nobody saw. Of an invalid one, all that its outline encloses.
    - Points and lines: the detection's box, where the model gave one with an area that is not
      simply their bounds. Else they overlap as if drawn by a pen that reaches `PEN` pixels to each
      side (a point is a square), within the tile.
    - Where none of this has an area, the box.

    Args:
        table: n detections of `detections.SCHEMA`.
        grid: That their tiles are of.

    Returns:
        n shapes, in pixels of the full image.
    """
    bounds = boxes(table)
    found = [
        _parts(table.slice(start, CHUNK), bounds[start : start + CHUNK], grid, start)
        for start in range(0, len(table), CHUNK)
        if table["geometry"].slice(start, CHUNK).null_count < len(bounds[start : start + CHUNK])
    ]
    return _with_parts(bounds, Parts.concatenate(found)) if found else Shapes.boxes(bounds)


def _parts(table: pa.Table, bounds: NDArray[np.float64], grid: Grid, start: int) -> Parts:
    """The parts of some detections, of which the first has a place in a longer table."""
    rows = np.flatnonzero(table["geometry"].is_valid().to_numpy())
    geometries = shapely.from_wkb(table["geometry"].drop_null().to_numpy())
    limits = grid.windows(table["tile"].to_numpy()[rows])
    parts = convex_parts(_surfaces(geometries, bounds[rows], limits))
    return Parts(start + rows[parts.owners], parts.corners, parts.points)


def _surfaces(
    geometries: NDArray[np.object_], given: NDArray[np.float64], limits: NDArray[np.float64]
) -> NDArray[np.object_]:
    """(n,) polygons and multi-polygons within n limits; None where the given box counts."""
    drawn = np.flatnonzero(shapely.get_dimensions(geometries) < 2)
    clipped = _clip(shapely.bounds(geometries[drawn]), limits[drawn])
    sizes = given[drawn, 2:] - given[drawn, :2]
    boxed = (given[drawn] != clipped).any(axis=1) & (sizes > 0).all(axis=1)
    geometries[drawn] = shapely.buffer(
        geometries[drawn], PEN, cap_style="square", join_style="bevel"
    )
    geometries[drawn[boxed]] = None
    mixed = shapely.get_type_id(geometries) == shapely.GeometryType.GEOMETRYCOLLECTION
    geometries[mixed] = shapely.buffer(valid(geometries[mixed]), 0)  # as one surface
    bounds = shapely.bounds(geometries)
    beyond = (bounds != _clip(bounds, limits)).any(axis=1) & ~np.isnan(bounds[:, 0])
    tiles = shapely.box(*limits[beyond].T)
    geometries[beyond] = shapely.intersection(valid(geometries[beyond]), tiles)
    return geometries


def _clip(bounds: NDArray[np.float64], limits: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of n bounds within n limits."""
    return np.clip(bounds, np.tile(limits[:, :2], 2), np.tile(limits[:, 2:], 2))


def _with_parts(boxes: NDArray[np.float64], parts: Parts) -> Shapes:
    """Shapes of which those that own parts are these, and the others boxes."""
    shapes = Shapes.boxes(boxes)
    bounds, areas = shapes.bounds.copy(), shapes.areas
    owners, first, counts = np.unique(parts.owners, return_index=True, return_counts=True)
    bounds[owners, :2] = np.minimum.reduceat(parts.points, parts.corners[first])
    bounds[owners, 2:] = np.maximum.reduceat(parts.points, parts.corners[first])
    upright = first[(counts == 1) & _upright(parts, first)]
    areas[owners] = np.add.reduceat(parts.areas, first)
    parts = parts.take(np.delete(np.arange(len(parts.owners)), upright))
    ends = np.searchsorted(parts.owners, np.arange(len(boxes) + 1))
    return Shapes(bounds, areas, ends, parts.corners, parts.points)


def _upright(parts: Parts, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of some parts are upright boxes."""
    upright: NDArray[np.bool_] = np.diff(parts.corners)[places] == 4
    corners = parts.points[parts.corners[places[upright], None] + np.arange(4)]
    x, y = corners[:, :, 0], corners[:, :, 1]
    level = (y[:, 0] == y[:, 1]) & (y[:, 2] == y[:, 3])
    upright[upright] = level & (x[:, 1] == x[:, 2]) & (x[:, 3] == x[:, 0])
    return upright
