"""DISSOLVE: surfaces cut by tile edges become those found in the whole image at once."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.features import shapes
from scipy.ndimage import gaussian_filter

from tasks.grid.tiles import Grid
from tasks.merge.algorithms.nms import labels_of
from tasks.merge.deferral import clusters
from tasks.merge.dissolve import dissolve as dissolve_labelled
from tasks.results.detections import SCHEMA, boxes, concatenate
from tests.examples import examples

Mask = NDArray[np.bool_]

SIZE = (300, 400)


def row(
    tile: int,
    ordinal: int,
    geometry: shapely.Geometry,
    score: float = 0.5,
    *,
    name: str = "lake",
    drawn: bool = True,
) -> dict[str, Any]:
    x_min, y_min, x_max, y_max = geometry.bounds
    return {
        "tile": tile,
        "ordinal": ordinal,
        "x_min": x_min,
        "y_min": y_min,
        "x_max": x_max,
        "y_max": y_max,
        "score": score,
        "class_name": name,
        "geometry": shapely.to_wkb(geometry) if drawn else None,
        "properties": f'{{"from":"{tile}.{ordinal}"}}',
    }


def table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    return concatenate([pa.Table.from_pylist(list(rows), schema=SCHEMA)])


def dissolve(found: pa.Table, grid: Grid, iou: float) -> pa.Table:
    return dissolve_labelled(found, grid, iou, labels_of(found["class_name"]))


def polygons(mask: Mask) -> list[shapely.Geometry]:
    found = shapes(mask.astype(np.uint8), mask, connectivity=4)
    drawn = np.array([shapely.geometry.shape(shape) for shape, _ in found], object)
    return list(shapely.make_valid(drawn, method="structure"))


def segmented(mask: Mask, grid: Grid, failed: Iterable[int] = ()) -> pa.Table:
    """What a perfect model finds of a mask, tile by tile."""
    rows = []
    for region in grid.regions(10**9):
        for tile in grid.tiles(region):
            y, x = tile.window.row_off, tile.window.col_off
            part = mask[y : y + grid.tile_height, x : x + grid.tile_width]
            if tile.index in failed:
                continue
            rows += [
                row(tile.index, ordinal, shapely.affinity.translate(polygon, x, y))
                for ordinal, polygon in enumerate(polygons(part))
            ]
    return table(rows)


def geometry(found: pa.Table) -> NDArray[np.object_]:
    drawn: NDArray[np.object_] = shapely.from_wkb(found["geometry"].to_numpy())
    return drawn


def in_order(drawn: Any) -> NDArray[np.object_]:
    drawn = np.asarray(drawn, object)
    keys = [*shapely.bounds(drawn).T, shapely.area(drawn)]
    ordered: NDArray[np.object_] = drawn[np.lexsort(keys)]
    return ordered


def assert_same(found: pa.Table, expected: list[shapely.Geometry]) -> None:
    drawn = geometry(found)
    assert len(drawn) == len(expected)
    assert shapely.is_valid(drawn).all()
    assert (shapely.get_type_id(drawn) == shapely.get_type_id(np.array(expected, object))).all()
    np.testing.assert_array_equal(boxes(found), shapely.bounds(drawn))
    one, two = in_order(drawn), in_order(expected)
    assert shapely.area(shapely.symmetric_difference(one, two)).max(initial=0) == 0


def circle(mask: Mask, x: float, y: float, radius: float, inner: float = 0) -> None:
    rows, columns = np.indices(mask.shape) + 0.5
    distance = np.hypot(columns - x, rows - y)
    mask |= (distance < radius) & (distance >= inner)


def circles() -> Mask:
    mask = np.zeros(SIZE, bool)
    numbers = np.random.default_rng(3)
    for x, y, radius in numbers.uniform((0, 0, 2), (400, 300, 40), (30, 3)):
        circle(mask, x, y, radius)
    return mask


def rings() -> Mask:
    mask = np.zeros(SIZE, bool)
    for radius in range(20, 230, 24):
        circle(mask, 200, 150, radius, radius - 9)
    return mask


def spiral() -> Mask:
    rows, columns = np.indices(SIZE) + 0.5
    angle = np.arctan2(rows - 150, columns - 200) / (2 * np.pi)
    mask: Mask = (np.hypot(columns - 200, rows - 150) / 40 - angle) % 1 < 0.4
    return mask


def comb() -> Mask:
    """Long teeth on one spine: many detections in all tiles but those that see the spine."""
    mask = np.zeros(SIZE, bool)
    mask[:, ::7] = mask[:, 1::7] = mask[-9:-4] = True
    return mask


def noise() -> Mask:
    field = gaussian_filter(np.random.default_rng(5).normal(size=SIZE), 2)
    mask: Mask = field > 0.02
    return mask


GRIDS = [(100, 0), (128, 0), (128, 16), (128, 64), (96, 60), (600, 50)]


def threshold(overlap: int) -> float:
    """Where tiles only touch, a mask changes from one's last line to the other's first."""
    return 0.75 if overlap else 0


@pytest.mark.parametrize(("tile", "overlap"), GRIDS)
@pytest.mark.parametrize("draw", [circles, rings, spiral, comb, noise])
def test_drawn_shapes_are_as_in_the_whole_image(draw: Any, tile: int, overlap: int) -> None:
    mask = draw()
    grid = Grid(mask.shape[1], mask.shape[0], tile, overlap)
    assert_same(dissolve(segmented(mask, grid), grid, threshold(overlap)), polygons(mask))


def test_an_area_that_only_a_failed_tile_covers_is_missing_and_joins_nothing() -> None:
    mask = noise() | spiral()
    grid = Grid(mask.shape[1], mask.shape[0], 128, 40)
    failed = {5, 6}
    seen = np.zeros_like(mask)
    for tile in grid.tiles(grid.regions(10**9)[0]):
        y, x = tile.window.row_off, tile.window.col_off
        seen[y : y + 128, x : x + 128] |= tile.index not in failed
    assert not seen.all()
    assert_same(dissolve(segmented(mask, grid, failed), grid, 0.75), polygons(mask & seen))


TWO = Grid(180, 100, 100, 20)
"""Tile 0 covers x from 0 to 100, tile 1 from 80 to 180."""

box = shapely.box


def polygon(*corners: tuple[float, float]) -> shapely.Polygon:
    return shapely.Polygon(corners)


def left(*rows: dict[str, Any], grid: Grid = TWO, iou: float = 0.5) -> list[dict[str, Any]]:
    """Rows after dissolving, with geometries read."""
    found: list[dict[str, Any]] = dissolve(table(rows), grid, iou).to_pylist()
    return [named | {"geometry": shapely.from_wkb(named["geometry"])} for named in found]


def names(found: Iterable[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(named["tile"], named["ordinal"]) for named in found]


@pytest.mark.parametrize(
    ("one", "two", "score", "expected"),
    [
        (box(60, 10, 100, 20), box(80, 10, 170, 20), 0.2, (1, 4)),  # the larger
        (box(60, 10, 100, 20), box(80, 10, 120, 20), 0.6, (1, 4)),  # the better
        (box(60, 10, 100, 20), box(80, 10, 120, 20), 0.5, (0, 7)),  # the first
    ],
)
def test_all_but_the_outline_is_of_the_largest_part_then_the_best_then_the_first(
    one: shapely.Geometry, two: shapely.Geometry, score: float, expected: tuple[int, int]
) -> None:
    rows = [row(0, 7, one, 0.5), row(1, 4, two, score)]
    (found,) = left(*rows)
    assert names([found]) == [expected]
    whole = shapely.union(one, two)
    assert found["geometry"].equals(whole)
    rest = next(part for part in rows if names([part]) == [expected])
    outline = dict(zip(("x_min", "y_min", "x_max", "y_max"), whole.bounds, strict=True))
    assert found == rest | outline | {"geometry": found["geometry"]}


def test_a_lake_around_the_corner_of_four_tiles_is_one() -> None:
    grid = Grid(180, 180, 100, 20)
    lake = shapely.Point(90, 90).buffer(60).difference(shapely.Point(90, 90).buffer(8))
    tiles = [box(x, y, x + 100, y + 100) for y in (0, 80) for x in (0, 80)]
    parts = [row(tile, 0, lake & window) for tile, window in enumerate(tiles)]
    (found,) = left(*parts, grid=grid, iou=0.75)
    assert found["geometry"].geom_type == "Polygon"
    assert len(found["geometry"].interiors) == 1
    assert shapely.symmetric_difference(found["geometry"], lake).area < 1e-9


def test_arms_that_one_tile_sees_apart_are_one_through_the_tile_that_sees_them_meet() -> None:
    arms = [row(0, 0, box(50, 10, 100, 20)), row(0, 1, box(50, 30, 100, 40))]
    bridge = box(80, 10, 150, 20) | box(80, 30, 150, 40) | box(140, 10, 150, 40)
    assert names(left(*arms, iou=0.75)) == [(0, 0), (0, 1)]
    (found,) = left(*arms, row(1, 0, bridge), iou=0.75)
    assert found["geometry"].equals(bridge | box(50, 10, 100, 20) | box(50, 30, 100, 40))


def test_a_detection_in_several_polygons_is_joined_by_any_of_them() -> None:
    two = shapely.MultiPolygon([box(10, 10, 20, 20), box(70, 10, 100, 20)])
    (found,) = left(row(0, 0, two), row(1, 0, box(80, 10, 120, 20)), iou=0.75)
    expected = shapely.MultiPolygon([box(10, 10, 20, 20), box(70, 10, 120, 20)])
    assert found["geometry"].equals(expected)


@pytest.mark.parametrize("tile", [0, 1])
def test_two_of_one_tile_stay_two_and_so_do_two_classes(tile: int) -> None:
    same, other = row(0, 0, box(80, 10, 100, 20)), row(tile, 1, box(80, 10, 100, 20))
    kinds = ["lake" if tile == 0 else "field", "lake"]
    assert len(left(same | {"class_name": kinds[0]}, other | {"class_name": kinds[1]}, iou=0)) == 2


def test_neighbours_that_lie_side_by_side_stay_two() -> None:
    """Two fields with a slanted border, which the tiles draw 2 px apart."""
    upper = [
        polygon((20, 5), (100, 5), (100, 40), (20, 20)),
        polygon((80, 5), (160, 5), (160, 55), (80, 35)),
    ]
    lower = [
        polygon((20, 20), (100, 40), (100, 90), (20, 90)),
        polygon((80, 37), (160, 57), (160, 90), (80, 90)),
    ]
    rows = [row(tile, 0, upper[tile]) for tile in (0, 1)] + [
        row(tile, 1, lower[tile]) for tile in (0, 1)
    ]
    assert len(left(*rows, iou=0.2)) == 2


def test_only_an_iou_above_the_threshold_joins() -> None:
    half = [row(0, 0, box(60, 10, 100, 20)), row(1, 0, box(80, 10, 130, 15))]
    assert len(left(*half, iou=0.5)) == 2
    assert len(left(*half, iou=0.499)) == 1


def test_where_tiles_only_touch_borders_are_compared_by_length() -> None:
    grid = Grid(200, 100, 100, 0)
    one = polygon((50, 10), (100, 10), (100, 20), (100, 30), (50, 30))  # a corner on the border
    two = box(100, 20, 150, 40)
    assert len(left(row(0, 0, one), row(1, 0, two), grid=grid, iou=0.34)) == 2  # 10 px of 30
    (found,) = left(row(0, 0, one), row(1, 0, two), grid=grid, iou=0.33)
    assert found["geometry"].equals(one | two)
    corner = [row(0, 0, box(90, 90, 100, 100)), row(3, 0, box(100, 100, 110, 110))]
    assert len(left(*corner, grid=Grid(200, 200, 100, 0), iou=0)) == 2


def test_boxes_are_joined_by_their_outlines_and_stay_boxes_if_nothing_joins_them() -> None:
    cut = [row(0, 0, box(60, 10, 100, 20), drawn=False), row(1, 0, box(80, 10, 130, 20))]
    alone = row(1, 1, box(110, 60, 120, 70), drawn=False)
    found = left(*cut, alone)
    assert names(found) == [(1, 0), (1, 1)]
    assert found[0]["geometry"].equals(box(60, 10, 130, 20))
    assert found[1] == alone


def test_detections_without_a_surface_in_their_tile_stay_unchanged() -> None:
    rows = [
        row(0, 0, shapely.Point(90, 50)),
        row(0, 1, shapely.LineString([(70, 50), (100, 50)])),
        row(0, 2, shapely.GeometryCollection([shapely.Point(90, 50), box(80, 40, 95, 60)])),
        row(0, 3, box(110, 10, 120, 20)),  # drawn beyond what the tile shows
        row(0, 4, box(90, 50, 90, 60), drawn=False),
        row(1, 0, box(85, 30, 120, 70)),
    ]
    assert dissolve(table(rows), TWO, 0).equals(table(rows))


def test_an_outline_outside_of_its_tile_is_neither_compared_nor_joined() -> None:
    guess = row(0, 0, box(60, 10, 140, 20))
    assert geometry(dissolve(table([guess]), TWO, 0.5))[0].equals(box(60, 10, 140, 20))
    (found,) = left(guess, row(1, 0, box(80, 10, 110, 20)), iou=0.99)
    assert found["geometry"].equals(box(60, 10, 110, 20))


def test_outlines_that_cross_themselves_become_valid() -> None:
    tie = polygon((60, 10), (100, 30), (100, 10), (60, 30))
    flat = polygon((10, 60), (20, 70), (10, 60))
    found = left(row(0, 0, tie), row(0, 1, flat), row(1, 0, box(80, 50, 120, 60)))
    assert [named["geometry"].is_valid for named in found] == [True] * 3
    assert [named["geometry"].geom_type for named in found] == [
        "MultiPolygon", "LineString", "Polygon"
    ]  # fmt: skip
    joined = left(row(0, 0, tie), row(1, 0, polygon((80, 20), (100, 30), (120, 20), (100, 10))))
    assert len(joined) == 1
    assert joined[0]["geometry"].is_valid


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("iou", [0.2, 0.75])
def test_a_fragment_within_an_object_of_another_tile_is_part_of_it(iou: float, drawn: bool) -> None:
    whole, part = box(60, 0, 100, 100), box(82, 40, 92, 60)
    rows = [row(0, 0, whole, drawn=drawn), row(1, 0, part, drawn=drawn)]
    (found,) = left(*rows, iou=iou)
    assert names([found]) == [(0, 0)]
    assert found["geometry"].equals(whole)
    outside = row(1, 0, box(82, 40, 92, 60) | box(100, 40, 120, 60), drawn=True)
    assert len(left(rows[0], outside, iou=iou)) == 2  # two thirds of it
    assert len(left(rows[0], row(0, 1, part), iou=iou)) == 2  # what one tile shows as two, is two


def test_a_hole_outside_of_its_shell_is_no_surface() -> None:
    shell, hole = box(10, 10, 30, 30), box(50, 50, 60, 60)
    outline = shapely.Polygon(shell.exterior, [hole.exterior])
    (found,) = left(row(0, 0, outline))
    assert found["geometry"].equals(shell)
    assert (found["x_max"], found["y_max"]) == (30, 30)
    joined = left(
        row(0, 0, shapely.Polygon(box(60, 10, 100, 20).exterior, [hole.exterior])),
        row(1, 0, box(80, 10, 130, 20)),
    )
    assert [each["geometry"].bounds for each in joined] == [(60, 10, 130, 20)]


def test_nothing_dissolves_to_nothing() -> None:
    found = dissolve(table([]), TWO, 0.5)
    assert len(found) == 0
    assert found.schema == SCHEMA


def test_many_views_of_the_same_object_become_one() -> None:
    shifts = np.random.default_rng(0).normal(0, 1, (2, 1500, 2))
    pile = [
        row(tile, ordinal, shapely.affinity.translate(shapely.Point(90, 50).buffer(8), x, y))
        for tile in (0, 1)
        for ordinal, (x, y) in enumerate(shifts[tile])
    ]
    (found,) = left(*pile, iou=0.5)
    assert found["geometry"].geom_type == "Polygon"


corner = st.tuples(st.integers(-4, 24), st.integers(-4, 24))
outline = st.tuples(corner, corner, corner) | st.tuples(corner, corner)
sighting = st.tuples(st.integers(0, 8), outline, st.sampled_from("ab"), st.sampled_from([0.5, 0.7]))
grids = st.sampled_from([Grid(60, 60, 20, 0), Grid(52, 52, 20, 4), Grid(36, 36, 20, 12)])
thresholds = st.sampled_from([0.0, 0.2049, 0.7451])  # which no two shapes are alike by


def sightings(drawn: list[Any], grid: Grid) -> list[dict[str, Any]]:
    rows = []
    for ordinal, (tile, corners, name, score) in enumerate(drawn):
        down, across = divmod(tile, 3)
        moved = np.add(corners, (grid.columns[across], grid.rows[down])).astype(float)
        shape = polygon(*moved) if len(moved) == 3 else box(*moved.min(0), *moved.max(0))
        if shape.area:
            rows.append(row(tile, ordinal, shape, score, name=name))
    return rows


drawings = st.tuples(st.lists(sighting, max_size=16), grids).map(
    lambda drawn: (sightings(*drawn), drawn[1])
)


def surface(seen: shapely.Geometry) -> shapely.Geometry:
    """What has an area: a polygon that only touches its tile's edge from outside shows nothing."""
    parts = shapely.get_parts(shapely.get_parts(seen))
    return shapely.union_all([part for part in parts if part.geom_type == "Polygon"])


def pieces(part: shapely.Geometry, shared_area: shapely.Geometry) -> list[shapely.Geometry]:
    found = shapely.intersection(part, shared_area)
    if shared_area.geom_type == "LineString":
        found = shapely.line_merge(found)
    return [piece for piece in shapely.get_parts(found) if piece.geom_type == shared_area.geom_type]


def match(one: dict[str, Any], two: dict[str, Any], grid: Grid, iou: float) -> bool:
    """The rule by its definition."""
    windows = [
        box(x, y, x + 20, y + 20)
        for down, across in (divmod(part["tile"], 3) for part in (one, two))
        for x, y in [(grid.columns[across], grid.rows[down])]
    ]
    shared_area = shapely.intersection(*windows)
    size = shapely.length if shared_area.geom_type == "LineString" else shapely.area
    shapes = [shapely.from_wkb(part["geometry"]) for part in (one, two)]
    seen = [surface(shapely.intersection(*both)) for both in zip(shapes, windows, strict=True)]
    return one["tile"] != two["tile"] and any(
        size(shapely.intersection(a, b)) > iou * size(shapely.union(a, b))
        for a in pieces(seen[0], shared_area)
        for b in pieces(seen[1], shared_area)
    )


def contained(rows: list[dict[str, Any]], groups: list[int], grid: Grid) -> list[int]:
    """Groups united of which one lies by more than half in another, by the definition."""
    windows = shapely.box(*grid.windows(np.array([part["tile"] for part in rows], int)).T)
    drawn = np.array([shapely.from_wkb(part["geometry"]) for part in rows], object)
    shapes, found = shapely.intersection(drawn, windows), list(groups)
    for a, b in combinations(sorted(set(groups)), 2):
        ones, others = ([k for k, group in enumerate(groups) if group == c] for c in (a, b))
        if rows[ones[0]]["class_name"] != rows[others[0]]["class_name"]:
            continue
        shared = [
            shapely.intersection(shapes[k], shapes[m])
            for k in ones
            for m in others
            if rows[k]["tile"] != rows[m]["tile"]
        ]
        least = min(shapely.union_all(shapes[part]).area for part in (ones, others))
        beyond_half = shapely.union_all(shared).area - 0.5 * least
        assume(abs(beyond_half) > 1e-6 or least == 0)
        if beyond_half > 0 and least > 0:
            found = [found[ones[0]] if group == found[others[0]] else group for group in found]
    return found


TOUCHING = [row(2, 1, box(40, 20, 41, 21)), row(5, 3, polygon((40, 20), (40, 21), (41, 20)))]
"""The first lies outside of its tile, and has a line of its edge in common with it."""


@examples(1.5)
@example((TOUCHING, Grid(60, 60, 20, 0)), 0.0)
@given(drawings, thresholds)
def test_objects_are_what_the_definition_makes_of_every_pair(drawn: Any, iou: float) -> None:
    rows, grid = drawn
    together = list(range(len(rows)))
    for k, one in enumerate(rows):
        for m, two in enumerate(rows[:k]):
            if one["class_name"] == two["class_name"] and match(one, two, grid, iou):
                together = [together[m] if t == together[k] else t for t in together]
    together = contained(rows, together, grid)
    found = dissolve(table(rows), grid, iou)
    assert len(found) == len(set(together))
    assert shapely.is_valid(geometry(found)).all()
    kept = names(found.to_pylist())
    group = {name: together[k] for k, name in enumerate(names(rows))}
    assert sorted(group[name] for name in kept) == sorted(set(together))


@settings(deadline=None)
@given(drawings, thresholds, st.data())
def test_neither_the_order_of_rows_nor_others_far_away_matter(
    drawn: Any, iou: float, data: st.DataObject
) -> None:
    rows, grid = drawn
    whole = dissolve(table(rows), grid, iou)
    assert names(whole.to_pylist()) == sorted(names(whole.to_pylist()))
    shuffled = concatenate([table([part]) for part in data.draw(st.permutations(rows))])
    assert dissolve(shuffled, grid, iou).equals(whole)
    bounds = shapely.bounds([shapely.from_wkb(part["geometry"]) for part in rows]).reshape(-1, 4)
    groups = clusters(bounds, np.array([ord(part["class_name"]) for part in rows], np.int64))
    apart = [
        dissolve(table(part for k, part in zip(groups, rows, strict=True) if k == group), grid, iou)
        for group in set(groups.tolist())
    ]
    assert concatenate(apart).equals(whole)
