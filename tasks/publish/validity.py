"""Make geometries valid by OGC Simple Features (ISO 19125-1), as readers of results expect."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import GeometryType


def repair(
    geometry: NDArray[np.object_],
) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
    """Make geometries valid, and leave those that are valid as they are.

    An invalid polygon becomes the area that its rings enclose (GEOS's method "structure"): both
    lobes of a bow-tie, the union of overlapping parts, and a hole outside its shell as a part. A
    polygon without an area becomes the line or the point that it covers, and a line without a
    length becomes a point.

    Args:
        geometry: (n,) shapely geometries, not empty; or None.

    Returns:
        (n,) geometries, valid and not empty, or None where the input is None; and (n,) whether each
        was invalid and was changed.
    """
    invalid = ~(shapely.is_valid(geometry) | shapely.is_missing(geometry))
    if not invalid.any():
        return geometry, invalid
    originals = geometry[invalid]
    areas = _make_valid(originals, keep_collapsed=False)
    # The few that are left: without an area, or a collection whose members need not have one.
    others = shapely.is_empty(areas) | ~shapely.is_valid(areas) | _are_collections(originals)
    areas[others] = [_repair_one(each) for each in originals[others]]
    repaired = geometry.copy()
    repaired[invalid] = areas
    return repaired, invalid


def _repair_one(geometry: shapely.Geometry) -> shapely.Geometry:
    if geometry.geom_type == "GeometryCollection":
        members = [each for each in geometry.geoms if not each.is_empty]
        return shapely.GeometryCollection([_repair_one(each) for each in members])
    for keep_collapsed in (False, True):
        valid = _make_valid(geometry, keep_collapsed=keep_collapsed)
        if not valid.is_empty and valid.is_valid:
            return valid
    return shapely.Point(shapely.get_coordinates(geometry)[0])


def _make_valid(geometry: Any, *, keep_collapsed: bool) -> Any:  # noqa: ANN401 - one or an array
    return shapely.make_valid(geometry, method="structure", keep_collapsed=keep_collapsed)


def _are_collections(geometry: NDArray[np.object_]) -> NDArray[np.bool_]:
    collections: NDArray[np.bool_] = (
        shapely.get_type_id(geometry) == GeometryType.GEOMETRYCOLLECTION
    )
    return collections
