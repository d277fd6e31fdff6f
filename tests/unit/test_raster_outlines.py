"""Polygons of a raster: exact, and the same whichever rows are outlined together."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.ndimage import label

from tasks.raster.components import Strip
from tasks.raster.outlines import Outline
from tasks.raster.polygons import outlined
from tasks.request.raster_output import Polygons
from tests.examples import examples

NOT_OUTLINED = 2
class_maps = arrays(
    np.uint8,
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    elements=st.integers(0, NOT_OUTLINED),
)
full_maps = arrays(
    np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24)), elements=st.integers(0, 2)
)


def outline(
    classes: NDArray[np.uint8],
    rows: int | None = None,
    *,
    without: int | None = NOT_OUTLINED,
    **wanted: float,
) -> list[Outline]:
    """The outlines of a class map of all classes but one, by strips of some rows."""
    rows = rows or len(classes)
    strips = [
        Strip(top, part, part != without, part * 10 + 5)
        for top in range(0, len(classes), rows)
        for part in [classes[top : top + rows]]
    ]
    height, width = classes.shape
    return list(outlined(lambda: strips, Polygons.model_validate(wanted), (width, height)))


def in_order(found: list[Outline]) -> list[Outline]:
    """Outlines in an order that does not depend on strips."""
    return sorted(found, key=lambda each: (each.number, each.geometry.normalize().wkt))


def painted(found: list[Outline], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """A class map of outlines, 255 where there are none."""
    pairs = [(each.geometry, each.number) for each in found]
    if not pairs:
        return np.full(shape, 255, np.uint8)
    pixels: NDArray[np.uint8] = rasterio.features.rasterize(pairs, shape, fill=255, dtype=np.uint8)
    return pixels


@given(classes=class_maps)
def test_polygons_are_the_groups_of_neighbouring_pixels(classes: NDArray[np.uint8]) -> None:
    found = outline(classes)
    for number in (0, 1):
        labels, count = label(classes == number)
        areas = sorted(np.bincount(labels.ravel())[1:].tolist())
        ours = [each for each in found if each.number == number]
        assert len(ours) == count
        assert sorted(each.pixels for each in ours) == areas
    for each in found:
        assert each.geometry.area == each.pixels
        assert each.score == each.number * 10 + 5
        assert shapely.is_valid(each.geometry)


@given(classes=class_maps, rows=st.integers(1, 23), minimum=st.sampled_from([0, 4]))
def test_polygons_do_not_depend_on_the_strips(
    classes: NDArray[np.uint8], rows: int, minimum: int
) -> None:
    whole = in_order(outline(classes, minimumArea=minimum))
    parts = in_order(outline(classes, rows, minimumArea=minimum))
    assert len(whole) == len(parts)
    for one, other in zip(whole, parts, strict=True):
        assert (one.number, one.pixels, one.score) == (other.number, other.pixels, other.score)
        assert one.geometry.equals(other.geometry)
        assert shapely.get_num_coordinates(one.geometry) == shapely.get_num_coordinates(
            other.geometry
        )


@given(classes=class_maps, minimum=st.integers(2, 30))
def test_no_polygon_is_smaller_than_the_minimum(classes: NDArray[np.uint8], minimum: int) -> None:
    found = outline(classes, minimumArea=minimum)
    for each in found:
        assert each.geometry.area == each.pixels >= minimum
        assert each.score == each.number * 10 + 5  # of the pixels that have its class
    kept = painted(found, classes.shape)
    for number in (0, 1):  # no two polygons of a class touch along an edge
        assert label(kept == number)[1] == sum(each.number == number for each in found)
    for each in outline(classes):
        if each.pixels >= minimum:
            inside = painted([each], classes.shape) == each.number
            assert len(np.unique(kept[inside])) == 1  # as a whole, it is what it was or absorbed


@given(classes=full_maps, minimum=st.integers(2, 30))
def test_small_polygons_leave_no_gaps(classes: NDArray[np.uint8], minimum: int) -> None:
    found = outline(classes, without=None, minimumArea=minimum)
    assert sum(each.pixels for each in found) == (classes.size if classes.size >= minimum else 0)


def test_a_small_polygon_goes_to_the_neighbour_with_the_longest_border() -> None:
    classes = np.zeros((9, 12), np.uint8)
    classes[:, 6:] = 1
    classes[4:6, 5] = 3  # three sides in 0, one in 1
    (left, right) = outline(classes, without=None, minimumArea=3)
    assert (left.number, left.pixels, right.number, right.pixels) == (0, 54, 1, 54)
    assert left.score == 5  # of its own pixels
    (alone,) = outline(classes, without=0, minimumArea=3)
    assert (alone.number, alone.pixels) == (1, 54)


def test_holes_are_filled_and_what_lies_in_them_is_absorbed() -> None:
    classes = np.zeros((20, 20), np.uint8)
    classes[2:6, 2:6] = 1
    classes[3:5, 3:5] = 3
    classes[10:18, 10:18] = 1
    found = outline(classes, without=None)
    assert sorted(each.pixels for each in found) == [4, 12, 64, 400 - 16 - 64]
    (inner, outer) = outline(classes, without=None, largestHole=16)
    assert (outer.number, outer.geometry.area) == (0, 400 - 64)
    assert (inner.number, inner.geometry.area) == (1, 64)
    assert len(outline(classes, without=None, largestHole=15)) == 3
    assert len(outline(classes, without=None, largestHole=64)) == 1


@given(
    classes=full_maps,
    rows=st.integers(1, 24),
    minimum=st.sampled_from([0, 3, 8]),
    hole=st.sampled_from([0, 5]),
    tolerance=st.sampled_from([0.5, 1.0, 1.5, 3.0]),
)
@examples(0.5)
def test_simplified_neighbours_keep_their_common_border(
    classes: NDArray[np.uint8], rows: int, minimum: int, hole: int, tolerance: float
) -> None:
    found = outline(
        classes, rows, without=None, minimumArea=minimum, largestHole=hole, tolerance=tolerance
    )
    areas = [each.geometry.area for each in found]
    whole = shapely.union_all([each.geometry for each in found])
    assert all(shapely.is_valid(each.geometry) for each in found)
    assert sum(areas) == pytest.approx(whole.area)  # no overlap
    height, width = classes.shape
    assert whole.equals(shapely.box(0, 0, width, height)) or not found  # no gap
    some = outline(classes, rows, minimumArea=minimum, tolerance=tolerance)
    united = shapely.union_all([each.geometry for each in some])
    assert sum(each.geometry.area for each in some) == pytest.approx(united.area)


def test_simplified_outlines_are_near_the_exact_ones() -> None:
    y, x = np.mgrid[:300, :300]
    classes = ((x - 140) ** 2 + (y - 150) ** 2 < 120**2).astype(np.uint8)
    classes[x > y + 40] += 1
    exact = outline(classes, without=None)
    found = outline(classes, 64, without=None, tolerance=1.5)
    for each in (exact, found):
        each.sort(key=lambda one: one.pixels)
    for before, after in zip(exact, found, strict=True):
        assert after.number == before.number
        assert shapely.hausdorff_distance(before.geometry, after.geometry) < 4
        assert after.geometry.area == pytest.approx(before.pixels, rel=0.01)
        counts = shapely.get_num_coordinates([before.geometry, after.geometry])
        assert counts[1] < counts[0] / 4


def tilted(degrees: float, *boxes: tuple[int, int, int, int]) -> shapely.Geometry:
    """A building of boxes, turned about the middle of an image of 200 pixels."""
    whole = shapely.union_all([shapely.box(*each) for each in boxes])
    return shapely.affinity.rotate(whole, degrees, origin=(100, 100))


def corners(polygon: shapely.Geometry) -> NDArray[np.float64]:
    """The sines of the angles at the corners of a polygon."""
    sines = []
    for ring in shapely.get_rings(polygon):
        points = shapely.get_coordinates(ring)[:-1]
        before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
        cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
        sines.append(cross / np.hypot(*before.T) / np.hypot(*after.T))
    return np.concatenate(sines)


@pytest.mark.parametrize("degrees", [0, 7, 30, 45, 81])
@pytest.mark.parametrize(
    ("boxes", "count"),
    [([(60, 70, 130, 110)], 4), ([(60, 70, 130, 100), (60, 70, 90, 140)], 6)],
    ids=["rectangle", "L"],
)
def test_buildings_get_their_right_angles(
    degrees: float, boxes: list[tuple[int, int, int, int]], count: int
) -> None:
    truth = tilted(degrees, *boxes)
    classes = rasterio.features.rasterize([truth], (200, 200), dtype=np.uint8)
    (found,) = outline(classes, without=0, rightAngles=True, tolerance=2)
    sines = corners(found.geometry)
    assert len(sines) == count
    np.testing.assert_allclose(np.abs(sines), 1)
    shared = shapely.intersection(found.geometry, truth).area
    assert shared / shapely.union(found.geometry, truth).area > 0.95


@given(classes=class_maps)
def test_every_angle_is_right_and_no_outline_is_far_off(classes: NDArray[np.uint8]) -> None:
    exact, squared = outline(classes), outline(classes, rightAngles=True)
    height, width = classes.shape
    for before, after in zip(exact, squared, strict=True):
        assert after.geometry.geom_type == "Polygon"
        assert shapely.is_valid(after.geometry)
        assert shapely.covers(shapely.box(0, 0, width, height), after.geometry)
        points = np.vstack(
            [shapely.get_coordinates(ring)[:-1] for ring in shapely.get_rings(after.geometry)]
        )
        inner = ((points > 0) & (points < [width, height])).all(axis=1)
        np.testing.assert_allclose(np.abs(corners(after.geometry))[inner], 1, atol=1e-6)
        shared = shapely.intersection(before.geometry, after.geometry).area
        assert shared / shapely.union(before.geometry, after.geometry).area >= 0.8 - 1e-9


def test_a_building_at_the_edge_of_the_image_ends_there() -> None:
    truth = shapely.affinity.translate(tilted(20, (20, 20, 120, 60)), -60)
    classes = rasterio.features.rasterize([truth], (200, 140), dtype=np.uint8)
    (found,) = outline(classes, without=0, rightAngles=True, tolerance=2)
    assert shapely.bounds(found.geometry)[0] == 0
    inside = shapely.intersection(truth, shapely.box(0, 0, 140, 200))
    shared = shapely.intersection(found.geometry, inside).area
    assert shared / shapely.union(found.geometry, inside).area > 0.9
