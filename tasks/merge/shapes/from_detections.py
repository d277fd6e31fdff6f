"""The shapes of a table of detections."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from tasks.grid.tiles import Grid
from tasks.merge.shapes.parts import Parts, convex_parts, valid
from tasks.merge.shapes.shapes import Shapes
from tasks.results.detections import boxes

BUFFER = 8.0
"""Pixels by which points and lines are buffered to each side, to give them an area."""

CHUNK = 1 << 14  # detections whose geometries are in memory at once


def shapes_of(table: pa.Table, grid: Grid) -> Shapes:
    """The area that each detection covers, for overlaps; published geometries do not change.

    - No geometry: the box.
    - Polygons: their area without holes, clipped to the detection's own tile, as the model saw
      nothing outside it. For an invalid polygon, all that its outline encloses.
    - Points and lines: the model's box, if it has an area and differs from their bounds. Otherwise
      the geometry buffered by `BUFFER` pixels (a point becomes a square) and clipped to the tile.
    - If none of these has an area, the box.

    Args:
        table: n detections of `detections.SCHEMA`.
        grid: The image's tiles.

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
    """The parts of some rows of a longer table, the first of which is row `start` there."""
    rows = np.flatnonzero(table["geometry"].is_valid().to_numpy())
    geometries = shapely.from_wkb(table["geometry"].drop_null().to_numpy())
    windows = grid.windows(table["tile"].to_numpy()[rows])
    parts = convex_parts(_polygons(geometries, bounds[rows], windows))
    return Parts(start + rows[parts.owners], parts.corners, parts.points)


def _polygons(
    geometries: NDArray[np.object_], given: NDArray[np.float64], windows: NDArray[np.float64]
) -> NDArray[np.object_]:
    """(n,) polygons and multi-polygons clipped to n windows; None where the given box is used."""
    thin = np.flatnonzero(shapely.get_dimensions(geometries) < 2)  # points and lines
    clipped = _clip(shapely.bounds(geometries[thin]), windows[thin])
    sizes = given[thin, 2:] - given[thin, :2]
    boxed = (given[thin] != clipped).any(axis=1) & (sizes > 0).all(axis=1)
    geometries[thin] = shapely.buffer(
        geometries[thin], BUFFER, cap_style="square", join_style="bevel"
    )
    geometries[thin[boxed]] = None
    mixed = shapely.get_type_id(geometries) == shapely.GeometryType.GEOMETRYCOLLECTION
    geometries[mixed] = shapely.buffer(valid(geometries[mixed]), 0)  # the union of its polygons
    bounds = shapely.bounds(geometries)
    outside = (bounds != _clip(bounds, windows)).any(axis=1) & ~np.isnan(bounds[:, 0])
    tiles = shapely.box(*windows[outside].T)
    geometries[outside] = shapely.intersection(valid(geometries[outside]), tiles)
    return geometries


def _clip(bounds: NDArray[np.float64], windows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 4) bounds, each clipped to its window, (n, 4)."""
    return np.clip(bounds, np.tile(windows[:, :2], 2), np.tile(windows[:, 2:], 2))


def _with_parts(boxes: NDArray[np.float64], parts: Parts) -> Shapes:
    """Shapes of n detections: the parts that belong to each, or its box if it has none."""
    shapes = Shapes.boxes(boxes)
    bounds, areas = shapes.bounds.copy(), shapes.areas
    owners, first, counts = np.unique(parts.owners, return_index=True, return_counts=True)
    bounds[owners, :2] = np.minimum.reduceat(parts.points, parts.corners[first])
    bounds[owners, 2:] = np.maximum.reduceat(parts.points, parts.corners[first])
    upright = first[(counts == 1) & _are_upright(parts, first)]
    areas[owners] = np.add.reduceat(parts.areas, first)
    parts = parts.take(np.delete(np.arange(len(parts.owners)), upright))
    ends = np.searchsorted(parts.owners, np.arange(len(boxes) + 1))
    return Shapes(bounds, areas, ends, parts.corners, parts.points)


def _are_upright(parts: Parts, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(k,) True for those of k parts that are upright boxes."""
    upright: NDArray[np.bool_] = np.diff(parts.corners)[indices] == 4
    corners = parts.points[parts.corners[indices[upright], None] + np.arange(4)]
    x, y = corners[:, :, 0], corners[:, :, 1]
    level = (y[:, 0] == y[:, 1]) & (y[:, 2] == y[:, 3])
    upright[upright] = level & (x[:, 1] == x[:, 2]) & (x[:, 3] == x[:, 0])
    return upright
