"""Overlaps of shapes equal shapely's, for any shape at any position."""

import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.grid.tiles import Grid
from tasks.merge.shapes import BUFFER, Shapes, shapes_of
from tasks.merge.shapes.from_detections import CHUNK
from tasks.merge.shapes.overlap import intersection_area, iou
from tasks.merge.shapes.parts import convex_parts
from tasks.results.detections import SCHEMA
from tests.examples import examples

GRID = Grid(400_000, 2_000, 2_000, 0)  # one row; tile k begins at x = 2000 k
FAR = 100  # the tile that begins at 200,000 px
Geometries = NDArray[np.object_]


def intersection_areas(shapes: Shapes, firsts: Any, seconds: Any) -> NDArray[np.float64]:
    """(k,) areas that pairs of shapes share, px²."""
    pairs = zip(firsts, seconds, strict=True)
    return np.array([intersection_area(shapes.arrays, *pair) for pair in pairs])


def table(geometries: Any, tile: int = 0, boxes: Any = None) -> pa.Table:
    """Detections in a tile, of geometries or None, with their own bounds as boxes or others."""
    given_shapes = np.array(geometries, object)
    count = len(given_shapes)
    sides = shapely.bounds(given_shapes) if boxes is None else np.array(boxes, float)
    left, right = 2000 * tile, 2000 * (tile + 1)
    sides = np.clip(sides, (left, 0, left, 0), (right, 2000, right, 2000))
    columns = {
        "tile": np.full(count, tile),
        "ordinal": np.arange(count, dtype=np.int32),
        **dict(zip(("x_min", "y_min", "x_max", "y_max"), sides.T, strict=True)),
        "score": np.ones(count),
        "class_name": ["ship"] * count,
        "geometry": pa.array(shapely.to_wkb(given_shapes), pa.binary()),
        "properties": ["{}"] * count,
    }
    return pa.table(columns, schema=SCHEMA)


def shapes(*geometries: Any, tile: int = 0) -> Shapes:
    return shapes_of(table(geometries, tile), GRID)


def drawn(text: str, box: list[float] | None = None) -> Shapes:
    """The shape of a geometry in WKT, in the first tile."""
    return shapes_of(table([shapely.from_wkt(text)], 0, None if box is None else [box]), GRID)


def rotated(count: int, seed: int, spread: float = 5) -> Geometries:
    """Rotated boxes about one spot, some of which are upright."""
    random = np.random.default_rng(seed)
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    corners = corners * random.uniform(1, 60, (count, 1, 2))
    angle = random.uniform(0, np.pi, count) * (random.random(count) > 0.1)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)
    centres = 1000 + random.normal(0, spread, (count, 1, 2))
    turned: Geometries = shapely.polygons(np.einsum("nij,nkj->nki", turn, corners) + centres)
    return turned


def moved(geometries: Any, right: float, down: float = 0) -> Geometries:
    offset = np.array([right, down])
    there: Geometries = shapely.transform(np.array(geometries), lambda points: points + offset)
    return there


def in_tile(geometries: Any, tile: int) -> Geometries:
    """Geometries of the first tile in another one, on points that are exact in both."""
    return moved(coarse(geometries), 2000 * tile)


def coarse(geometries: Any) -> Geometries:
    """On multiples of 2⁻²⁰ px, which are exact at 200,000 px too."""
    rounded: Geometries = shapely.transform(
        np.array(geometries), lambda points: np.round(points * 2**20) / 2**20
    )
    return rounded


def mended(geometries: Any) -> Geometries:
    valid: Geometries = shapely.make_valid(
        np.array(geometries), method="structure", keep_collapsed=False
    )
    return valid


spots = st.tuples(st.integers(800, 864), st.integers(800, 864)).map(
    lambda spot: (spot[0] + spot[1] / 128, spot[1] + spot[0] / 128)
)
outlines = st.lists(spots, min_size=3, max_size=12, unique=True).map(shapely.Polygon)
hulls = outlines.map(shapely.convex_hull).filter(lambda hull: hull.area > 0)
holed = st.tuples(hulls, hulls).map(lambda pair: pair[0].difference(pair[1]))
several = st.tuples(hulls, hulls).map(lambda pair: pair[0].symmetric_difference(pair[1]))
masks = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30, unique=True
).map(lambda pixels: shapely.union_all([shapely.box(x, y, x + 1, y + 1) for x, y in pixels]))
upright = st.tuples(spots, spots).map(lambda pair: shapely.box(*pair[0], *pair[1]))
any_shape = (outlines | hulls | holed | several | upright).filter(
    lambda shape: not shape.is_empty and mended([shape])[0].area > 1e-3
)


@examples(3)
@given(any_shape, any_shape, st.sampled_from([0, FAR]))
def test_the_common_area_of_two_shapes_equals_shapelys(
    one: shapely.Geometry, other: shapely.Geometry, tile: int
) -> None:
    found = shapes(*in_tile([one, other], tile), tile=tile)
    valid = mended(coarse([one, other]))
    np.testing.assert_allclose(found.areas, shapely.area(valid), rtol=1e-6, atol=1e-6)
    common = shapely.area(shapely.intersection(*valid))
    area = intersection_area(found.arrays, 0, 1)
    if area == 0:  # rounding alone may make shapes that touch overlap
        common = min(common, shapely.area(shapely.intersection(*mended([one, other]))))
    assert area == pytest.approx(common, rel=1e-6, abs=1e-6)
    assert 0 <= iou(found.arrays, 0, 1) <= 1
    assert iou(found.arrays, 0, 0) == 1


@settings(deadline=None)
@given(st.lists(any_shape, min_size=2, max_size=5), st.randoms())
def test_an_overlap_depends_neither_on_order_nor_on_position(
    geometries: list[shapely.Geometry], random: Any
) -> None:
    order = random.sample(range(len(geometries)), len(geometries))
    found = shapes(*geometries).arrays
    shuffled = shapes(*[geometries[place] for place in order]).arrays
    for new, place in enumerate(order):
        for newer, other in enumerate(order):
            assert iou(found, place, other) == iou(shuffled, newer, new)


@pytest.mark.parametrize("tile", [0, FAR])
def test_the_common_area_of_rotated_boxes_equals_shapelys(tile: int) -> None:
    one, other = coarse(rotated(5000, 1)), coarse(rotated(5000, 2))
    found = shapes(*in_tile(one, tile), *in_tile(other, tile), tile=tile)
    places = np.arange(5000)
    common = intersection_areas(found, places, places + 5000)
    theirs = shapely.area(shapely.intersection(one, other))
    np.testing.assert_allclose(common, theirs, rtol=1e-9, atol=1e-7)
    assert (common > 0).mean() > 0.9
    assert np.diff(found.parts).max() == 1


def test_upright_polygons_are_boxes_bit_for_bit() -> None:
    corners = np.random.default_rng(0).uniform(0, 2000, (200, 2, 2))
    corners.sort(axis=1)
    boxes = corners.reshape(-1, 4)
    found = shapes(*shapely.box(*boxes.T, ccw=False))
    plain = Shapes.boxes(boxes)
    assert found.upright
    for mine, theirs in zip(found.arrays, plain.arrays, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_common_area_of_a_box_and_a_polygon_equals_shapelys() -> None:
    boxes = np.array([[980.0, 985, 1010, 1002], [0, 0, 2000, 2000], [900, 900, 901, 901]])
    turned = rotated(300, 3)
    found = shapes_of(table([None] * 3 + list(turned), 0, [*boxes, *shapely.bounds(turned)]), GRID)
    for box in range(3):
        common = intersection_areas(found, np.full(300, box), np.arange(3, 303))
        theirs = shapely.area(shapely.intersection(shapely.box(*boxes[box]), turned))
        np.testing.assert_allclose(common, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tile", [0, FAR])
@pytest.mark.parametrize("angle", [0, 0.3, np.pi / 4, 2.5])
def test_neighbours_that_touch_have_no_common_area(tile: int, angle: float) -> None:
    side = np.array([30 * np.cos(angle), 30 * np.sin(angle)])
    up = np.array([-side[1], side[0]]) / 3
    row = [np.array([1000 + 2000 * tile, 1000]) + k * side for k in range(4)]
    boxes = [shapely.Polygon([at, at + side, at + side + up, at + up]) for at in row]
    found = shapes(*boxes, tile=tile).arrays
    for first in range(3):
        assert iou(found, first, first + 1) == 0
        assert intersection_area(found, first + 1, first) == 0


def test_a_shape_inside_another_shares_its_whole_area() -> None:
    outer = shapely.Point(1000, 1000).buffer(200)
    inner = rotated(50, 4)
    found = shapes(outer, *inner)
    common = intersection_areas(found, np.zeros(50, np.int64), np.arange(1, 51))
    np.testing.assert_allclose(common, found.areas[1:], rtol=1e-12)
    assert (common <= found.areas[1:]).all()


def test_the_same_shape_seen_twice_is_the_same_to_the_last_bit() -> None:
    holes = shapely.Point(1000, 1000).buffer(50).difference(rotated(1, 5)[0])
    twice = [*rotated(20, 6), holes] * 2
    found = shapes(*twice).arrays
    assert all(iou(found, place, place + 21) == 1 for place in range(21))


def test_long_slivers_overlap_within_bounds() -> None:
    random = np.random.default_rng(7)
    ends = random.uniform(0, 2000, (40, 2, 2))
    slivers = shapely.buffer(shapely.linestrings(ends), 1e-4, cap_style="flat")
    found = shapes(*slivers, *slivers[:1])
    ratios = [iou(found.arrays, i, j) for i in range(41) for j in range(41)]
    assert 0 <= min(ratios) <= max(ratios) == 1
    for place in range(1, 40):
        common = shapely.area(shapely.intersection(slivers[0], slivers[place]))
        mine = intersection_area(found.arrays, 0, place)
        assert mine == pytest.approx(common, rel=1e-4, abs=1e-9)


@examples(2)
@given(st.one_of(any_shape, masks), st.sampled_from([0, FAR]))
def test_parts_cover_their_surface_without_overlap(shape: shapely.Geometry, tile: int) -> None:
    parts = convex_parts(in_tile([shape], tile))
    surface = mended(in_tile([shape], tile))[0]
    spans = zip(parts.corners[:-1], parts.corners[1:], strict=True)
    rings = [parts.points[start:stop] for start, stop in spans]
    polygons = moved([shapely.Polygon(ring) for ring in rings], -2000 * tile)
    united = shapely.union_all(polygons)
    missed = united.symmetric_difference(moved([surface], -2000 * tile)[0]).area
    assert missed < 1e-6
    assert parts.areas.sum() == pytest.approx(surface.area, rel=1e-6, abs=1e-6)
    for ring, polygon in zip(rings, polygons, strict=True):
        assert polygon.convex_hull.area == pytest.approx(polygon.area, rel=1e-6, abs=1e-9)
        assert ring[0].tolist() == min(ring.tolist())
    assert (parts.areas > 0).all()
    assert (np.diff([ring[0, 0] for ring in rings]) >= 0).all()


def test_masks_whose_holes_touch_are_cut_into_parts_completely() -> None:
    random = np.random.default_rng(8)
    rows, columns = np.nonzero(random.random((60, 60)) < 0.6)
    mask = shapely.union_all(shapely.box(columns, rows, columns + 1, rows + 1))
    found = shapes(mask, shapely.box(10.5, 10.5, 40, 40))
    assert found.areas[0] == mask.area
    common = mask.intersection(shapely.box(10.5, 10.5, 40, 40)).area
    assert intersection_area(found.arrays, 0, 1) == pytest.approx(common, rel=1e-12)


def test_overlapping_and_crossing_outlines_count_once() -> None:
    twice = drawn("MULTIPOLYGON (((0 0, 10 0, 10 10, 0 10, 0 0)), ((5 0, 15 0, 15 10, 5 10, 5 0)))")
    assert twice.areas[0] == pytest.approx(150)
    bow_tie = drawn("POLYGON ((0 0, 10 10, 10 0, 0 10, 0 0))")
    assert bow_tie.areas[0] == pytest.approx(50)
    mixed = drawn(
        "GEOMETRYCOLLECTION (POINT (90 90), POLYGON ((0 0, 10 0, 10 10, 0 10, 0 0)),"
        " POLYGON ((5 0, 15 0, 15 10, 5 10, 5 0)))"
    )
    assert mixed.areas[0] == pytest.approx(150)
    assert mixed.bounds[0].tolist() == [0, 0, 15, 10]


@settings(deadline=None)
@given(any_shape, st.integers(-64, 0), st.integers(-64, 0), st.sampled_from([0, FAR]))
def test_what_lies_outside_of_the_tile_is_cut_off(
    shape: shapely.Geometry, right: int, down: int, tile: int
) -> None:
    beyond = moved(coarse([shape]), right - 800, down - 800)
    found = shapes(*in_tile(beyond, tile), tile=tile)
    visible = mended(beyond)[0].intersection(shapely.box(0, 0, 2000, 2000))
    if visible.area > 1e-3:
        assert found.areas[0] == pytest.approx(visible.area, rel=1e-6)
        bounds = moved([visible], 2000 * tile)[0].bounds
        np.testing.assert_allclose(found.bounds[0], bounds, atol=1e-6)
    assert (found.bounds[:, :2] >= [2000 * tile, 0]).all()


def test_a_rotated_box_over_a_corner_of_its_tile_stays_one_part() -> None:
    turned = moved(rotated(500, 9, 10), -1000, -1000)
    seen = turned[shapely.area(shapely.intersection(turned, shapely.box(0, 0, 2000, 2000))) > 0.01]
    found = shapes(*seen)
    theirs = shapely.area(shapely.intersection(seen, shapely.box(0, 0, 2000, 2000)))
    np.testing.assert_allclose(found.areas, theirs, rtol=1e-9)
    assert np.diff(found.parts).max() == 1


@pytest.mark.parametrize(
    "text",
    [
        "POLYGON ((10 10, 30 10, 20 10, 10 10))",  # no area
        "POLYGON ((10 10, 10 10, 10 10, 10 10))",
        "POLYGON ((-30 10, -10 10, -10 30, -30 10))",  # not in the tile
        "POLYGON ((-30 10, 0 10, 0 30, -30 10))",  # touches it
        "LINESTRING (-100 10, -50 10)",
        "POLYGON EMPTY",
        "GEOMETRYCOLLECTION EMPTY",
    ],
)
def test_a_geometry_that_shows_nothing_leaves_the_box(text: str) -> None:
    found = drawn(text, [0, 10, 30, 40])
    assert found.upright
    assert found.bounds.tolist() == [[0, 10, 30, 40]]
    assert found.areas.tolist() == [900]


@pytest.mark.parametrize(
    "text", ["POINT (50 60)", "LINESTRING (50 60, 52 63)", "MULTIPOINT (50 60, 51 61)"]
)
def test_a_box_of_its_own_counts_for_points_and_lines(text: str) -> None:
    found = drawn(text, [40, 50, 70, 70])
    assert found.upright
    assert found.bounds.tolist() == [[40, 50, 70, 70]]


@pytest.mark.parametrize("box", [None, [50, 60, 50, 60], [48, 60, 52, 60]])
def test_a_point_without_a_box_is_a_square(box: list[float] | None) -> None:
    found = drawn("POINT (50 60)", box)
    assert found.upright
    assert found.bounds.tolist() == [[50 - BUFFER, 60 - BUFFER, 50 + BUFFER, 60 + BUFFER]]


def test_lines_overlap_as_drawn_by_a_pen() -> None:
    found = shapes(
        shapely.LineString([(100, 100), (300, 100)]),
        shapely.LineString([(300, 101), (100, 101)]),
        shapely.LineString([(100, 100), (300, 300)]),
        shapely.LineString([(200, 0), (200, 200), (400, 200)]),
    ).arrays
    width = 2 * BUFFER
    assert iou(found, 0, 1) == pytest.approx((width - 1) / (width + 1))
    assert 0 < iou(found, 0, 2) < 0.2
    assert intersection_area(found, 0, 3) == pytest.approx(width * width)


def test_the_pen_stays_in_the_tile() -> None:
    found = drawn("LINESTRING (-100 5, 100 5)")
    assert found.bounds.tolist() == [[0, 0, 100 + BUFFER, 5 + BUFFER]]
    assert drawn("POINT (2 3)").bounds.tolist() == [[0, 0, 2 + BUFFER, 3 + BUFFER]]


def test_shapes_do_not_depend_on_which_others_are_in_the_table() -> None:
    turned = [*rotated(3, 10), shapely.Point(50, 60), shapely.from_wkt("POLYGON EMPTY")]
    geometries = [None] * (CHUNK - 2) + turned + [None] * CHUNK + turned
    boxes = np.tile([100.0, 100, 130, 120], (len(geometries), 1))
    found = shapes_of(table(geometries, 0, boxes), GRID)
    few = shapes_of(table([None, *turned], 0, boxes[:6]), GRID)
    assert len(found) == len(geometries)
    for start in (CHUNK - 2, 2 * CHUNK + 3):
        for place in range(5):
            here, there = start + place, 1 + place
            assert found.bounds[here].tolist() == few.bounds[there].tolist()
            assert found.areas[here] == few.areas[there]
            mine = found.parts[here + 1] - found.parts[here]
            assert mine == few.parts[there + 1] - few.parts[there]
    np.testing.assert_array_equal(found.points, np.tile(few.points, (2, 1)))


def test_boxes_alone_take_no_more_than_their_arrays() -> None:
    count = 100_000
    plain = table([None] * count, 0, np.tile([0.0, 0, 1, 1], (count, 1)))
    tracemalloc.start()
    found = shapes_of(plain, GRID)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.upright
    assert peak < 150 * count


def test_no_detections_have_no_shapes() -> None:
    assert len(shapes_of(SCHEMA.empty_table(), GRID)) == 0
