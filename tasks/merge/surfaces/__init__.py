"""Segmentation: surfaces that tile edges cut are made one again, where two tiles saw the same."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from tasks.grid.tiles import Grid
from tasks.merge.nms import labels_of
from tasks.merge.surfaces.grounds import Surfaces, inside
from tasks.merge.surfaces.seams import join
from tasks.results.detections import SCHEMA, boxes

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Geometries = NDArray[np.object_]


def dissolve(
    table: pa.Table, grid: Grid, iou_threshold: float, labels: Integers | None = None
) -> pa.Table:
    """Join the surfaces of one class that tile edges cut, and those that several tiles saw whole.

    Which belong together says `join` of `seams`. What a model draws outside of its tile it did not
    see: only what lies inside is compared and joined. A detection without a geometry is the
    surface of its box. What has no surface in its tile (points, lines, collections) stays as it is,
    and so does a surface that nothing is joined to, except that it is made valid.

    Args:
        table: n detections of `detections.SCHEMA`, sorted by tile and ordinal.
        grid: The tiles that they were found in.
        iou_threshold: 0 to 1: above it, two surfaces on the common ground of two tiles are one.
        labels: (n,) surfaces of two labels are never joined; the classes, where left out.

    Returns:
        One row for each object, sorted by tile and ordinal. An object of several parts has their
        union as its geometry, the bounds of that as its box, and the rest from its largest part
        (ties: the higher score, then the first).
    """
    given = shapely.from_wkb(table["geometry"].to_numpy())
    shapes = _valid(given)
    labels = labels_of(table["class_name"]) if labels is None else labels
    surfaces = _surfaces(table, shapes, labels, grid)
    groups = join(surfaces, len(table), grid, iou_threshold)
    largest = _largest(table, surfaces, groups)

    box, several = boxes(table), np.bincount(groups, minlength=len(table)) > 1
    order = np.argsort(groups[surfaces.rows], kind="stable")
    starts = np.searchsorted(groups[surfaces.rows][order], np.arange(len(table) + 1))
    for row in largest[several[groups[largest]]]:
        members = order[starts[groups[row]] : starts[groups[row] + 1]]
        shapes[row] = shapely.union_all(surfaces.polygons[members])
        box[row] = shapely.bounds(shapes[row])
    return _with(table, box, shapes, shapes != given).take(largest)


def _surfaces(table: pa.Table, shapes: Geometries, labels: Integers, grid: Grid) -> Surfaces:
    """What detections show inside their tiles; those that have only a box, their box."""
    tiles = table["tile"].to_numpy()
    drawn = np.where(shapely.is_missing(shapes), shapely.box(*boxes(table).T), shapes)
    drawn[~_are_surfaces(drawn)] = None
    polygons, rows = inside(drawn, grid.windows(tiles))
    return Surfaces(polygons, rows, tiles[rows], labels[rows])


def _largest(table: pa.Table, surfaces: Surfaces, groups: Integers) -> Integers:
    """The row of each group that shows most, growing; of equal ones the best, then the first."""
    areas = np.bincount(surfaces.rows, shapely.area(surfaces.polygons), len(table))
    order = np.lexsort((-table["score"].to_numpy(), -areas, groups))
    _, first = np.unique(groups[order], return_index=True)
    return np.sort(order[first])


def _are_surfaces(geometry: Geometries) -> NDArray[np.bool_]:
    kinds = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
    return np.isin(shapely.get_type_id(geometry), kinds)


def _valid(geometry: Geometries) -> Geometries:
    """Surfaces as they were meant: outlines that cross themselves are taken apart."""
    valid = geometry.copy()
    broken = _are_surfaces(geometry) & ~shapely.is_valid(geometry)
    valid[broken] = shapely.make_valid(geometry[broken], method="structure", keep_collapsed=False)
    flat = broken & shapely.is_empty(valid)  # an outline without a surface: its line
    valid[flat] = shapely.make_valid(geometry[flat])
    return valid


def _with(table: pa.Table, box: Floats, shapes: Geometries, changed: NDArray[np.bool_]) -> pa.Table:
    """A table with other boxes, and other geometries where they changed."""
    geometry = table["geometry"].to_numpy().copy()
    geometry[changed] = shapely.to_wkb(shapes[changed])
    columns = {name: table[name] for name in SCHEMA.names} | {"geometry": geometry}
    columns |= zip(("x_min", "y_min", "x_max", "y_max"), box.T, strict=True)
    return pa.table(columns, SCHEMA)
