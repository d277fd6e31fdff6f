"""The ground that the tiles of an image cover, as far as they did not fail."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from tasks.grid.cells import edges
from tasks.imagery import Georeference
from tasks.publish import antimeridian
from tasks.publish.features import to_world
from tasks.publish.geometries import Geometries
from tasks.results.coverage import TileState

DECIMALS = 7
"""Of degrees: a centimetre."""

_MAX_BOXES = 2000  # of which an area is made: a catalog's items are small


def covered_area(
    ledger: pa.Table, georeference: Georeference | None, roi: shapely.Geometry | None
) -> shapely.Geometry | None:
    """The ground that inferred and blank tiles cover, in longitude and latitude.

    Args:
        ledger: Table of `coverage.MEASURED` with all tiles of the image.
        georeference: The image's georeference; without one there is no ground.
        roi: The region of interest in longitude and latitude; None for the whole image.

    Where thousands of failed tiles are spread over the image, small gaps are left out.

    Returns:
        Polygons that are cut at the antimeridian; None if nothing is covered, or not known where.
    """
    states = ledger["state"].to_numpy(zero_copy_only=False)
    covered = np.isin(states, [TileState.INFERRED, TileState.BLANK])
    if georeference is None or not covered.any():
        return None
    cells = _CoveredCells.of(ledger, covered)
    while len(boxes := cells.joined()) > _MAX_BOXES:
        cells = cells.coarser()
    area = shapely.simplify(shapely.union_all(boxes), 0)
    ground = to_world(Geometries(np.array([area])), georeference).geometries.shapes
    if ground[0] is None:  # a corner has no longitude and latitude
        ground = to_world(cells.single(), georeference).geometries.shapes
    whole = shapely.union_all(ground)
    if roi is not None:
        whole = shapely.intersection(whole, antimeridian.split(roi))
    whole = shapely.transform(whole, lambda degrees: np.round(degrees, DECIMALS))
    parts = [part for part in shapely.get_parts(whole) if part.geom_type.endswith("Polygon")]
    if not parts:
        return None
    joined = parts[0] if len(parts) == 1 else shapely.multipolygons(parts)
    oriented: shapely.Geometry = shapely.orient_polygons(joined, exterior_cw=False)
    return oriented


@dataclass(frozen=True)
class _CoveredCells:
    """Which cells of a grid are covered.

    Attributes:
        covered: (rows, columns) booleans.
        x: (columns + 1,) boundaries of the cells in pixels.
        y: (rows + 1,) the same.
    """

    covered: NDArray[np.bool_]
    x: NDArray[np.float64]
    y: NDArray[np.float64]

    @classmethod
    def of(cls, ledger: pa.Table, covered: NDArray[np.bool_]) -> Self:
        """The cells of a ledger, each tile of which is covered or not."""
        x, y, width, height = (ledger[name].to_numpy() for name in ("x", "y", "width", "height"))
        columns, rows = np.unique(x), np.unique(y)
        table = np.zeros((len(rows), len(columns)), bool)
        table[np.searchsorted(rows, y), np.searchsorted(columns, x)] = covered
        return cls(table, edges(list(columns), int(width[0])), edges(list(rows), int(height[0])))

    def joined(self) -> list[shapely.Geometry]:
        """Few boxes that cover the same: of neighbours in a row, over rows that are alike."""
        changes = np.flatnonzero((self.covered[1:] != self.covered[:-1]).any(axis=1)) + 1
        boxes: list[shapely.Geometry] = []
        for top, bottom in pairwise([0, *changes, len(self.covered)]):
            steps = np.diff(self.covered[top].astype(np.int8), prepend=0, append=0)
            left, right = np.flatnonzero(steps > 0), np.flatnonzero(steps < 0)
            boxes += list(shapely.box(self.x[left], self.y[top], self.x[right], self.y[bottom]))
        return boxes

    def coarser(self) -> Self:
        """Cells of twice the size, each covered if a part of it is."""
        rows, columns = self.covered.shape
        even = np.pad(self.covered, ((0, rows % 2), (0, columns % 2)))
        fours = even[::2, ::2] | even[1::2, ::2] | even[::2, 1::2] | even[1::2, 1::2]
        x, y = (np.unique(np.append(edge[::2], edge[-1])) for edge in (self.x, self.y))
        return replace(self, covered=fours, x=x, y=y)

    def single(self) -> Geometries:
        """A box for each cell."""
        row, column = np.nonzero(self.covered)
        return Geometries(
            shapely.box(self.x[column], self.y[row], self.x[column + 1], self.y[row + 1])
        )
