"""DISSOLVE for a table of detections: surfaces that tile edges cut become one row each."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from tasks.grid.tiles import Grid
from tasks.merge.dissolve.joining import join, join_contained
from tasks.merge.dissolve.shared_area import Surfaces, clip
from tasks.merge.shapes.parts import enclosed
from tasks.request import Measure
from tasks.results.detections import BOX_COLUMNS, SCHEMA, boxes

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Geometries = NDArray[np.object_]


def dissolve(
    table: pa.Table,
    grid: Grid,
    threshold: float,
    labels: Integers,
    measure: Measure = Measure.IOU,
) -> pa.Table:
    """Unite the surfaces of one object that tile edges cut, or that several tiles show whole.

    `joining.join` and `joining.join_contained` define which surfaces are one object. A model sees
    nothing outside its tile, so only the part inside is compared and united. A detection without a
    geometry counts as the surface of its box. Detections without a surface in their tile (points,
    lines, collections) are not changed. A surface that is united with no other is only made valid.

    Args:
        table: n detections of `detections.SCHEMA`, sorted by tile and ordinal.
        grid: The image's tiles.
        threshold: 0 to 1; two surfaces whose overlap within the area that their tiles share is
            above it are one object.
        labels: (n,) surfaces of different labels are never united.
        measure: Of the overlap.

    Returns:
        One row per object, sorted by tile and ordinal. The geometry of an object of several
        surfaces is their union, its box the bounds of that; all else is from the largest surface
        (ties: the higher score, then the first).
    """
    given = shapely.from_wkb(table["geometry"].to_numpy())
    geometries = _valid(given)
    surfaces = _surfaces(table, geometries, labels, grid)
    groups = join_contained(surfaces, join(surfaces, len(table), grid, threshold, measure))
    largest = _largest(table, surfaces, groups)

    box, several = boxes(table), np.bincount(groups, minlength=len(table)) > 1
    order = np.argsort(groups[surfaces.rows], kind="stable")
    starts = np.searchsorted(groups[surfaces.rows][order], np.arange(len(table) + 1))
    for row in largest[several[groups[largest]]]:
        members = order[starts[groups[row]] : starts[groups[row] + 1]]
        geometries[row] = shapely.union_all(surfaces.polygons[members])
        box[row] = shapely.bounds(geometries[row])
    return _updated(table, box, geometries, geometries != given).take(largest)


def _surfaces(table: pa.Table, geometries: Geometries, labels: Integers, grid: Grid) -> Surfaces:
    """The surfaces of detections within their tiles; the box of those without a geometry."""
    tiles = table["tile"].to_numpy()
    drawn = np.where(shapely.is_missing(geometries), shapely.box(*boxes(table).T), geometries)
    drawn[~_are_surfaces(drawn)] = None
    polygons, rows = clip(drawn, grid.windows(tiles))
    return Surfaces(polygons, rows, tiles[rows], labels[rows])


def _largest(table: pa.Table, surfaces: Surfaces, groups: Integers) -> Integers:
    """The row with the largest area in each group, ascending; ties: the higher score, the first."""
    areas = np.bincount(surfaces.rows, shapely.area(surfaces.polygons), len(table))
    order = np.lexsort((-table["score"].to_numpy(), -areas, groups))
    _, first = np.unique(groups[order], return_index=True)
    return np.sort(order[first])


def _are_surfaces(geometries: Geometries) -> NDArray[np.bool_]:
    kinds = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
    return np.isin(shapely.get_type_id(geometries), kinds)


def _valid(geometries: Geometries) -> Geometries:
    """Geometries whose surfaces are valid: outlines that cross themselves are split."""
    valid = geometries.copy()
    invalid = _are_surfaces(geometries) & ~shapely.is_valid(geometries)
    valid[invalid] = enclosed(geometries[invalid])
    flat = invalid & shapely.is_empty(valid)  # outlines without an area become lines
    valid[flat] = shapely.make_valid(geometries[flat])
    return valid


def _updated(
    table: pa.Table, box: Floats, geometries: Geometries, changed: NDArray[np.bool_]
) -> pa.Table:
    """A table with new boxes, and with new geometries in the rows where they changed."""
    geometry = table["geometry"].to_numpy().copy()
    geometry[changed] = shapely.to_wkb(geometries[changed])
    columns = {name: table[name] for name in SCHEMA.names} | {"geometry": geometry}
    columns |= zip(BOX_COLUMNS, box.T, strict=True)
    return pa.table(columns, SCHEMA)
