"""The area of polygons on the Earth, whatever the image's georeference."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine
from pyproj import Geod

from tasks.imagery import ground_areas
from tasks.imagery.georeference.affine import AffineGeoreference

GEOD = Geod(ellps="WGS84")
DEGREES = AffineGeoreference(Affine(0.01, 0, 10, 0, -0.01, 60), "EPSG:4326", (90, 90))


def polygons(*found: shapely.Geometry) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    return np.array(found, dtype=object)


def test_areas_are_those_on_the_ellipsoid() -> None:
    box, hole = shapely.box(0, 0, 50, 50), shapely.box(10, 10, 20, 30)
    apart = shapely.MultiPolygon([shapely.box(60, 60, 70, 70), shapely.box(80, 60, 90, 70)])
    found = ground_areas(polygons(box, box - hole, hole, apart), DEGREES)
    x, y = [10, 10.5, 10.5, 10], [59.5, 59.5, 60, 60]
    assert found[0] == pytest.approx(abs(GEOD.polygon_area_perimeter(x, y)[0]))
    assert found[1] + found[2] == pytest.approx(found[0])
    assert found[3] == pytest.approx(sum(ground_areas(polygons(*apart.geoms), DEGREES)))


def test_an_area_across_the_antimeridian_is_that_of_anywhere_else() -> None:
    across = AffineGeoreference(Affine(0.01, 0, 179.9, 0, -0.01, 60), "EPSG:4326", (90, 90))
    box = polygons(shapely.box(0, 0, 50, 50))
    assert ground_areas(box, across) == pytest.approx(ground_areas(box, DEGREES))


def test_areas_without_a_position_are_not_known() -> None:
    box = shapely.box(0, 0, 50, 50)
    assert np.isnan(ground_areas(polygons(box), None)).all()
    beyond = shapely.box(0, -9000, 50, 0)  # north of the pole
    found = ground_areas(polygons(beyond, box), DEGREES)
    assert np.isnan(found[0])
    assert found[1] > 0
    assert ground_areas(polygons(), DEGREES).shape == (0,)
