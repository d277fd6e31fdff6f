"""The parts of surfaces within the area that two tiles share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from tasks.grid.tiles import Grid

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Geometries = NDArray[np.object_]

Step = tuple[int, int]  # rows and columns from one tile to another


@dataclass(frozen=True)
class Surfaces:
    """The connected polygons of detections within their tiles.

    Attributes:
        polygons: (p,) valid polygons, in pixels of the full image.
        rows: (p,) row of each polygon's detection, ascending.
        tiles: (p,) tile of that detection.
        labels: (p,) its label; surfaces of different labels are never compared.
    """

    polygons: Geometries
    rows: Integers
    tiles: Integers
    labels: Integers

    @cached_property
    def bounds(self) -> Floats:
        """(p, 4) x_min, y_min, x_max, y_max."""
        bounds: Floats = shapely.bounds(self.polygons)
        return bounds


class PieceArrays(NamedTuple):
    """Bounds, sizes and origin of pieces, as arrays for compiled functions.

    Attributes:
        bounds: (k, 4) x_min, y_min, x_max, y_max.
        sizes: (k,) area, px²; length of a line, px.
        lines: (k,) True for lines.
        full: (k,) True for pieces that fill their bounds: lines and upright boxes.
        rows: (k,) row of the detection.
        labels: (k,) its label.
        areas: (k,) shared area that a piece lies in, as the lower of the two tiles' indices.
    """

    bounds: Floats
    sizes: Floats
    lines: NDArray[np.bool_]
    full: NDArray[np.bool_]
    rows: Integers
    labels: Integers
    areas: Integers


@dataclass(frozen=True)
class Pieces:
    """Connected pieces of surfaces within the area that their tile shares with another.

    Attributes:
        shapes: (k,) polygons; straight lines if the tiles only touch.
        arrays: Their bounds, sizes and origin.
    """

    shapes: Geometries
    arrays: PieceArrays

    def __len__(self) -> int:
        """Number of pieces."""
        return len(self.shapes)


def steps(grid: Grid) -> list[Step]:
    """Steps from a tile to the later tiles, row by row, that overlap or touch it."""
    down, across = _reach(grid.rows, grid.tile_height), _reach(grid.columns, grid.tile_width)
    every = product(range(down + 1), range(-across, across + 1))
    return [step for step in every if step > (0, 0)]


def _reach(starts: Sequence[int], tile: int) -> int:
    """The largest number of steps along an axis to a tile that overlaps or touches a tile."""
    last = np.searchsorted(starts, np.asarray(starts) + tile, side="right") - 1
    return int((last - np.arange(len(starts))).max())


def pieces(surfaces: Surfaces, grid: Grid, step: Step) -> Pieces:
    """The pieces of surfaces within the area that their tiles share with the tiles a step away."""
    across = len(grid.columns)
    row, column = np.divmod(surfaces.tiles, across)
    down, right = row + step[0], column + step[1]
    near = np.flatnonzero((down >= 0) & (down < len(grid.rows)) & (right >= 0) & (right < across))
    own = surfaces.tiles[near]
    other = own + step[0] * across + step[1]
    shared = intersection(grid.windows(own), grid.windows(other))
    overlap = (_sides(shared) > 0).any(axis=1)  # tiles that touch in one corner share nothing
    overlap &= (_sides(intersection(shared, surfaces.bounds[near])) >= 0).all(axis=1)
    near, shared = near[overlap], shared[overlap]
    shapes, indices = clip(surfaces.polygons[near], shared)
    bounds, near = shapely.bounds(shapes), near[indices]
    lines = shapely.get_dimensions(shapes) == 1
    sizes = np.where(lines, _sides(bounds).max(axis=1), shapely.area(shapes))
    arrays = PieceArrays(
        bounds=bounds,
        sizes=sizes,
        lines=lines,
        full=lines | (sizes >= _sides(bounds).prod(axis=1) * (1 - 1e-12)),
        rows=surfaces.rows[near],
        labels=surfaces.labels[near],
        areas=np.minimum(own, other)[overlap][indices],
    )
    return Pieces(shapes, arrays)


def clip(geometries: Geometries, limits: Floats) -> tuple[Geometries, Integers]:
    """Clip surfaces to boxes; a box without a width or height is a line.

    Args:
        geometries: (n,) valid polygons and multi-polygons, or None.
        limits: (n, 4) x_min, y_min, x_max, y_max.

    Returns:
        (k,) connected polygons, or straight lines if the limit is a line; and (k,) the index in
        `geometries` of each, ascending.
    """
    bounds = shapely.bounds(geometries)
    line = (_sides(limits) == 0).any(axis=1)
    cut = ~line & ((bounds[:, :2] < limits[:, :2]) | (bounds[:, 2:] > limits[:, 2:])).any(axis=1)
    clipped = geometries.copy()
    clipped[cut] = shapely.intersection(geometries[cut], shapely.box(*limits[cut].T))
    lines = shapely.linestrings(limits[line].reshape(-1, 2, 2))
    clipped[line] = shapely.line_merge(shapely.intersection(geometries[line], lines))
    found, indices = shapely.get_parts(clipped, return_index=True)
    found, nested = shapely.get_parts(found, return_index=True)  # the parts of collections
    indices = indices[nested]
    solid = shapely.get_dimensions(found) == np.where(line, 1, 2)[indices]
    solid &= line[indices] | (shapely.area(found) > 0)
    return found[solid], indices[solid]


def intersection(one: Floats, two: Floats) -> Floats:
    """(n, 4) intersections of pairs of boxes; width or height is negative if they are apart."""
    return np.hstack([np.maximum(one[:, :2], two[:, :2]), np.minimum(one[:, 2:], two[:, 2:])])


def _sides(box: Floats) -> Floats:
    """(n, 2) width and height of boxes."""
    sides: Floats = box[:, 2:] - box[:, :2]
    return sides
