"""The geometries of many features, which need no object each where all are quadrilaterals."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray

from tasks.publish.quadrilaterals import all_rings, bounds_of, orientations, turned


class Geometries:
    """Valid geometries of two dimensions, or None where a feature has none.

    Quadrilaterals, as boxes are, are kept as their rings. Objects of shapely are made of them only
    if they are asked for, as they take several times as long as what is written about them.
    """

    def __init__(self, shapes: NDArray[np.object_]) -> None:
        """Keep geometries (n,)."""
        self.shapes = shapes

    @classmethod
    def of_rings(cls, rings: NDArray[np.float64]) -> Geometries:
        """Quadrilaterals, by their closed rings (n, 5, 2)."""
        found = cls.__new__(cls)
        found.rings = rings
        return found

    def __len__(self) -> int:
        """Number of geometries."""
        return len(self.shapes if self.rings is None else self.rings)

    @cached_property
    def shapes(self) -> NDArray[np.object_]:
        """(n,) as shapely's, or None."""
        shapes: NDArray[np.object_] = shapely.polygons(self.rings)
        return shapes

    @cached_property
    def rings(self) -> NDArray[np.float64] | None:
        """(n, 5, 2) the closed rings if all are quadrilaterals, or None."""
        return all_rings(self.shapes)

    @cached_property
    def missing(self) -> NDArray[np.bool_]:
        """(n,) which are None."""
        if self.rings is not None:
            return np.zeros(len(self.rings), bool)
        missing: NDArray[np.bool_] = shapely.is_missing(self.shapes)
        return missing

    @cached_property
    def bounds(self) -> NDArray[np.float64]:
        """(n, 4) smallest x and y, largest x and y of the coordinates; NaN of None."""
        if self.rings is not None:
            return bounds_of(self.rings)
        bounds: NDArray[np.float64] = shapely.bounds(self.shapes)
        return bounds

    @property
    def dimensions(self) -> NDArray[np.int_]:
        """(n,) 2 of areas, 1 of lines, 0 of points; −1 of None."""
        if self.rings is not None:
            return np.full(len(self.rings), 2)
        dimensions: NDArray[np.int_] = shapely.get_dimensions(self.shapes)
        return dimensions

    @property
    def types(self) -> set[str]:
        """The types, as shapely names them."""
        if self.rings is not None:
            return {"Polygon"} if len(self.rings) else set()
        numbers, first = np.unique(shapely.get_type_id(self.shapes), return_index=True)
        return {self.shapes[row].geom_type for row in first[numbers >= 0]}

    def counterclockwise(self) -> Geometries:
        """The same with exterior rings counter-clockwise and holes clockwise."""
        if self.rings is not None and (turns := orientations(self.rings)).all():
            return Geometries.of_rings(turned(self.rings, turns))
        return Geometries(shapely.orient_polygons(self.shapes, exterior_cw=False))
