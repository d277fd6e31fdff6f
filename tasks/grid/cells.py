"""The cells of a grid: what of an image each tile answers for, so that none of it counts twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
from numpy.typing import NDArray

from tasks.grid.roi import RegionOfInterest
from tasks.grid.tiles import Grid


def edges(starts: Sequence[int], tile: int) -> NDArray[np.float64]:
    """Where the cells along an axis meet: midway in each overlap of neighbours, and at both ends.

    Tile i's cell goes from edge i to edge i + 1 and lies in the tile.

    Args:
        starts: (n,) first pixels of the tiles, as `tasks.grid.tiles.positions` gives them.
        tile: Pixels of every tile along the axis.

    Returns:
        (n + 1,) pixels, whole or half, growing.
    """
    first = np.asarray(starts, np.float64)
    middles = (first[1:] + first[:-1] + tile) / 2
    return np.concatenate([first[:1], middles, first[-1:] + tile])


def areas(grid: Grid, roi: RegionOfInterest | None) -> NDArray[np.float64]:
    """How much of each tile's cell is asked for.

    The polygon is halved along with the grid, so that no cell meets more of it than lies around.

    Args:
        grid: The tiles.
        roi: What is asked for; None for the whole image.

    Returns:
        (n,) px², in the order of the grid.
    """
    x, y = edges(grid.columns, grid.tile_width), edges(grid.rows, grid.tile_height)
    whole = np.outer(np.diff(y), np.diff(x))
    if roi is None:
        return whole.ravel()
    asked = np.zeros_like(whole)
    blocks = [(roi.area, 0, len(grid.rows), 0, len(grid.columns))]
    while blocks:
        polygon, top, bottom, left, right = blocks.pop()
        box = shapely.box(x[left], y[top], x[right], y[bottom])
        part = _surfaces(shapely.intersection(polygon, box))
        if part.area == box.area:
            asked[top:bottom, left:right] = whole[top:bottom, left:right]
        elif bottom - top == right - left == 1:
            asked[top, left] = part.area
        elif part.area > 0 and bottom - top > right - left:
            middle = (top + bottom) // 2
            blocks += [(part, top, middle, left, right), (part, middle, bottom, left, right)]
        elif part.area > 0:
            middle = (left + right) // 2
            blocks += [(part, top, bottom, left, middle), (part, top, bottom, middle, right)]
    return asked.ravel()


def area_and_edge(grid: Grid, roi: RegionOfInterest | None) -> tuple[float, float]:
    """The area that is asked for inside a grid's image, px², and the length of its edge, px."""
    image = shapely.box(0, 0, grid.width, grid.height)
    asked = image if roi is None else _surfaces(shapely.intersection(roi.area, image))
    return float(asked.area), float(asked.length)


def _surfaces(geometry: shapely.Geometry) -> shapely.Geometry:
    """A geometry without the lines and points where it only touches."""
    if geometry.geom_type != "GeometryCollection":
        return geometry
    parts = shapely.get_parts(geometry)
    return shapely.multipolygons(parts[shapely.get_dimensions(parts) == 2])
