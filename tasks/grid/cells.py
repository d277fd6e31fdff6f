"""Cells: the part of an image that each tile answers for. They do not overlap, unlike tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from tasks.grid.roi import RegionOfInterest
from tasks.grid.tiles import Grid


@dataclass(frozen=True)
class Cells:
    """The areas of a grid's cells inside the region of interest.

    Attributes:
        areas: (n,) px² of each tile's cell inside the region of interest, in the order of the grid.
        total_area: px² of the region of interest inside the image.
        perimeter: Length of its boundary in pixels.
    """

    areas: NDArray[np.float64]
    total_area: float
    perimeter: float

    @classmethod
    def of(cls, grid: Grid, roi: RegionOfInterest | None) -> Cells:
        """Measure the cells of a grid.

        Args:
            grid: The tiles of the image.
            roi: The region of interest; None for the whole image.
        """
        image = shapely.box(0, 0, grid.width, grid.height)
        if roi is None:
            return cls(_cell_sizes(grid).ravel(), float(image.area), float(image.length))
        inside = _surfaces(shapely.intersection(roi.area, image))
        return cls(_areas(grid, inside).ravel(), float(inside.area), float(inside.length))


def edges(starts: Sequence[int], tile: int) -> NDArray[np.float64]:
    """Boundaries of the cells along an axis: the middle of each overlap, and both ends.

    The cell of tile i extends from edge i to edge i + 1 and lies inside the tile.

    Args:
        starts: (n,) first pixels of the tiles, as from `tasks.grid.tiles.positions`.
        tile: Pixels of every tile along the axis.

    Returns:
        (n + 1,) pixels, ascending, multiples of one half.
    """
    first = np.asarray(starts, np.float64)
    middles = (first[1:] + first[:-1] + tile) / 2
    return np.concatenate([first[:1], middles, first[-1:] + tile])


def tiles_at(grid: Grid, points: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) indices of the tiles whose cells hold points (n, 2) x, y of the image."""
    x, y = _cell_edges(grid)
    columns = np.clip(np.searchsorted(x, points[:, 0], "right") - 1, 0, len(grid.columns) - 1)
    rows = np.clip(np.searchsorted(y, points[:, 1], "right") - 1, 0, len(grid.rows) - 1)
    return (rows * len(grid.columns) + columns).astype(np.int64)


def pixel_cells(grid: Grid) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first column and the first row of the pixels whose centres lie in each cell.

    Returns:
        (columns + 1,) and (rows + 1,), the last one after the last pixel.
    """
    x, y = (np.ceil(edges - 0.5).astype(np.int64) for edges in _cell_edges(grid))
    return x, y


def _cell_edges(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return edges(grid.columns, grid.tile_width), edges(grid.rows, grid.tile_height)


def _cell_sizes(grid: Grid) -> NDArray[np.float64]:
    """(rows, columns) px² of each whole cell."""
    x, y = _cell_edges(grid)
    return np.outer(np.diff(y), np.diff(x))


def _areas(grid: Grid, polygon: shapely.Geometry) -> NDArray[np.float64]:
    """(rows, columns) px² of each cell inside a polygon.

    Polygon and grid are halved together, so that each cell is intersected only with the part of
    the polygon around it.
    """
    (x, y), whole = _cell_edges(grid), _cell_sizes(grid)
    areas = np.zeros_like(whole)
    blocks = [(polygon, 0, len(grid.rows), 0, len(grid.columns))]
    while blocks:
        around, top, bottom, left, right = blocks.pop()
        box = shapely.box(x[left], y[top], x[right], y[bottom])
        part = _surfaces(shapely.intersection(around, box))
        if part.area == box.area:
            areas[top:bottom, left:right] = whole[top:bottom, left:right]
        elif bottom - top == right - left == 1:
            areas[top, left] = part.area
        elif part.area > 0 and bottom - top > right - left:
            middle = (top + bottom) // 2
            blocks += [(part, top, middle, left, right), (part, middle, bottom, left, right)]
        elif part.area > 0:
            middle = (left + right) // 2
            blocks += [(part, top, bottom, left, middle), (part, top, bottom, middle, right)]
    return areas


def _surfaces(geometry: shapely.Geometry) -> shapely.Geometry:
    """The polygons of a geometry, without the lines and points where boundaries only touch."""
    if geometry.geom_type != "GeometryCollection":
        return geometry
    parts = shapely.get_parts(geometry)
    return shapely.multipolygons(parts[shapely.get_dimensions(parts) == 2])
