"""What surfaces show on the ground that two tiles share."""

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

Step = tuple[int, int]  # rows and columns from a tile to another


@dataclass(frozen=True)
class Surfaces:
    """The connected parts of detections inside their tiles.

    Attributes:
        polygons: (p,) valid ones, in pixels of the full image.
        rows: (p,) which detection each is of, growing.
        tiles: (p,) the tile in which it was found.
        labels: (p,) those of two labels never meet.
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


class Extents(NamedTuple):
    """What pieces of surfaces take up, in arrays for compiled functions.

    Attributes:
        bounds: (k, 4) x_min, y_min, x_max, y_max.
        sizes: (k,) px²; px of lines.
        lines: (k,) which are lines.
        full: (k,) which fill their bounds: lines and upright boxes.
        rows: (k,) the detection of each.
        labels: (k,) its label.
        grounds: (k,) number of the ground: the first of the two tiles that share it.
    """

    bounds: Floats
    sizes: Floats
    lines: NDArray[np.bool_]
    full: NDArray[np.bool_]
    rows: Integers
    labels: Integers
    grounds: Integers


@dataclass(frozen=True)
class Pieces:
    """Connected pieces of surfaces on ground that their tiles share with others.

    Attributes:
        shapes: (k,) polygons; straight lines where the tiles only touch.
        extents: What each takes up.
    """

    shapes: Geometries
    extents: Extents

    def __len__(self) -> int:
        """Pieces."""
        return len(self.shapes)


def steps(grid: Grid) -> list[Step]:
    """The steps to the tiles after a tile, row by row, that it may share ground with."""
    down, across = _reach(grid.rows, grid.tile_height), _reach(grid.columns, grid.tile_width)
    every = product(range(down + 1), range(-across, across + 1))
    return [step for step in every if step > (0, 0)]


def _reach(starts: Sequence[int], tile: int) -> int:
    """How many tiles on the furthest is that a tile along an axis meets or touches."""
    last = np.searchsorted(starts, np.asarray(starts) + tile, side="right") - 1
    return int((last - np.arange(len(starts))).max())


def pieces(surfaces: Surfaces, grid: Grid, step: Step) -> Pieces:
    """What of surfaces lies on the ground that their tiles share with the tiles a step away."""
    across = len(grid.columns)
    row, column = np.divmod(surfaces.tiles, across)
    down, right = row + step[0], column + step[1]
    near = np.flatnonzero((down >= 0) & (down < len(grid.rows)) & (right >= 0) & (right < across))
    own = surfaces.tiles[near]
    other = own + step[0] * across + step[1]
    ground = common(grid.windows(own), grid.windows(other))
    there = (_sides(ground) > 0).any(axis=1)  # tiles that meet in one corner share nothing
    there &= (_sides(common(ground, surfaces.bounds[near])) >= 0).all(axis=1)
    near, ground = near[there], ground[there]
    shapes, places = inside(surfaces.polygons[near], ground)
    bounds, near = shapely.bounds(shapes), near[places]
    lines = shapely.get_dimensions(shapes) == 1
    sizes = np.where(lines, _sides(bounds).max(axis=1), shapely.area(shapes))
    extents = Extents(
        bounds=bounds,
        sizes=sizes,
        lines=lines,
        full=lines | (sizes >= _sides(bounds).prod(axis=1) * (1 - 1e-12)),
        rows=surfaces.rows[near],
        labels=surfaces.labels[near],
        grounds=np.minimum(own, other)[there][places],
    )
    return Pieces(shapes, extents)


def inside(geometry: Geometries, limits: Floats) -> tuple[Geometries, Integers]:
    """The connected pieces of surfaces inside of limits, and where they touch a limit's line.

    Args:
        geometry: (n,) valid polygons and multipolygons, or None.
        limits: (n, 4) x_min, y_min, x_max, y_max; of no width or no height where it is a line.

    Returns:
        (k,) polygons, or straight lines where the limit is one; and (k,) the place in `geometry`
        that each comes from, growing.
    """
    bounds = shapely.bounds(geometry)
    line = (_sides(limits) == 0).any(axis=1)
    cut = ~line & ((bounds[:, :2] < limits[:, :2]) | (bounds[:, 2:] > limits[:, 2:])).any(axis=1)
    seen = geometry.copy()
    seen[cut] = shapely.intersection(geometry[cut], shapely.box(*limits[cut].T))
    lines = shapely.linestrings(limits[line].reshape(-1, 2, 2))
    seen[line] = shapely.line_merge(shapely.intersection(geometry[line], lines))
    found, places = shapely.get_parts(seen, return_index=True)
    found, nested = shapely.get_parts(found, return_index=True)  # what a collection holds
    places = places[nested]
    solid = shapely.get_dimensions(found) == np.where(line, 1, 2)[places]
    solid &= line[places] | (shapely.area(found) > 0)
    return found[solid], places[solid]


def common(one: Floats, two: Floats) -> Floats:
    """(n, 4) what pairs of boxes have in common; of negative width or height where apart."""
    return np.hstack([np.maximum(one[:, :2], two[:, :2]), np.minimum(one[:, 2:], two[:, 2:])])


def _sides(box: Floats) -> Floats:
    """(n, 2) width and height of boxes."""
    sides: Floats = box[:, 2:] - box[:, :2]
    return sides
