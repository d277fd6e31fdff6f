"""Objects that tile edges cut: the largest view of each stays, and no object is lost."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.grid.tiles import Grid
from tasks.merge.algorithms.non_maximum_merging import merge_groups
from tasks.merge.cut_objects.agreement import agreement
from tasks.merge.cut_objects.edges import MARGIN, TOLERANCE, Tiling, drop_cut_views, longest
from tasks.merge.cut_objects.largest_view import CLOSE, SHARED_IOU, keep_largest_views
from tasks.merge.cut_objects.views import set_shared_area, views_of
from tasks.merge.deferral import DROPPED, KEPT, UNDECIDED
from tasks.merge.shapes import Shapes, shapes_of
from tasks.results.detections import SCHEMA
from tests.examples import examples
from tests.greedy_pairs import decide

OFF = (MARGIN - TOLERANCE) / 2  # px that detectors may be off by
SQUARE = Grid(1000, 1000, 400, 100)  # tiles at 0, 300, 600 both ways

Box = tuple[float, float, float, float]
Floats = NDArray[np.float64]
Verdicts = NDArray[np.uint8]


class Seen(NamedTuple):
    """Detections: boxes (n, 4), labels, scores and tiles (n,), sorted by tile."""

    boxes: Floats
    labels: NDArray[np.int64]
    scores: Floats
    tiles: NDArray[np.int64]

    def at(self, places: NDArray[np.int64]) -> Seen:
        boxes, labels, scores, tiles = self
        return Seen(boxes[places], labels[places], scores[places], tiles[places])


def windows(grid: Grid) -> Floats:
    """(len(grid), 4) window of each tile."""
    return grid.windows(np.arange(len(grid)))


def area(boxes: Floats) -> Floats:
    sides: Floats = (boxes[..., 2:] - boxes[..., :2]).clip(0).prod(axis=-1)
    return sides


def common(one: Floats, other: Floats) -> Floats:
    low = np.maximum(one[..., :2], other[..., :2])
    high = np.minimum(one[..., 2:], other[..., 2:])
    return area(np.concatenate([low, high], axis=-1))


def clipped(boxes: Floats, window: Floats) -> Floats:
    found: Floats = np.clip(boxes, window[..., [0, 1, 0, 1]], window[..., [2, 3, 2, 3]])
    return found


def views(grid: Grid, box: Box) -> tuple[Floats, NDArray[np.int64]]:
    """The part of an object that each tile shows, and the tile, for all tiles that show any."""
    everywhere = windows(grid)
    tiles = np.flatnonzero(common(everywhere, np.array(box)) > 0)
    return clipped(np.array(box), everywhere[tiles]), tiles


def all_inferred(grid: Grid) -> NDArray[np.int8]:
    return np.ones(len(grid), np.int8)


def cut_one(box: Box, tile: int, inferred: NDArray[np.int8], grid: Grid = SQUARE) -> int:
    return int(drop_cut_views(np.array([box]), np.array([tile]), grid, inferred)[0])


def largest_views(
    seen: Seen,
    grid: Grid,
    decisions: Verdicts | None = None,
    matched: NDArray[np.bool_] | None = None,
) -> Verdicts:
    everything = np.full(len(seen.tiles), KEPT, np.uint8)
    found = everything if decisions is None else decisions
    return keep_largest_views(Shapes.boxes(seen.boxes), *seen[1:], grid, found, matched=matched)


def seen_of(boxes: list[Box], tiles: list[int], labels: list[int] | None = None) -> Seen:
    classes = np.array(labels or [0] * len(tiles))
    return Seen(np.array(boxes, float), classes, np.full(len(tiles), 0.5), np.array(tiles))


@st.composite
def grids(draw: st.DrawFn, most: float = 0.9) -> Grid:
    """Grids of up to 6 × 6 tiles, or one a little wider, that share up to a part of a tile."""
    tile = draw(st.integers(8, 100))
    overlap = draw(st.integers(0, int(most * tile)))
    width, height = (
        draw(st.integers(1, 5)) * (tile - overlap) + overlap + draw(st.integers(0, 3))
        for _ in range(2)
    )
    return Grid(width, height, tile, overlap)


def states(grid: Grid, *values: int) -> st.SearchStrategy[NDArray[np.int8]]:
    """One of some values for each tile."""
    seeds = st.integers(0, 2**32).map(np.random.default_rng)
    return seeds.map(lambda rng: rng.choice(np.array(values, np.int8), len(grid)))


@st.composite
def objects(draw: st.DrawFn, grid: Grid, width: float, height: float) -> Box:
    """A box in the image, of at most some width and height, and at least a pixel."""
    sides = [max(1.0, draw(st.floats(0, 1)) * side) for side in (width, height)]
    space = (grid.width, grid.height)
    low = [draw(st.floats(0, 1)) * max(0.0, s - side) for s, side in zip(space, sides, strict=True)]
    return low[0], low[1], low[0] + sides[0], low[1] + sides[1]


# The middle tile's view of an object (300 to 700 both ways), and the tile that shows it whole.
AT_EDGES = [
    ((300.0, 450.0, 340.0, 480.0), 3),
    ((660.0, 450.0, 700.0, 480.0), 5),
    ((450.0, 300.0, 480.0, 340.0), 1),
    ((450.0, 660.0, 480.0, 700.0), 7),
]


@pytest.mark.parametrize(("box", "whole"), AT_EDGES)
def test_a_cut_view_is_dropped_if_the_tile_beyond_was_inferred(box: Box, whole: int) -> None:
    inferred = all_inferred(SQUARE)
    assert cut_one(box, 4, inferred) == DROPPED
    inferred[whole] = 0
    assert cut_one(box, 4, inferred) == KEPT
    inferred[whole] = -1
    assert cut_one(box, 4, inferred) == UNDECIDED


@pytest.mark.parametrize("beyond", [0, 1, 3])
def test_at_a_corner_any_of_the_tiles_beyond_shows_more(beyond: int) -> None:
    box = (301.0, 300.0, 330.0, 330.0)
    inferred = np.zeros(9, np.int8)
    inferred[4] = 1
    assert cut_one(box, 4, inferred) == KEPT
    inferred[beyond] = -1
    assert cut_one(box, 4, inferred) == UNDECIDED
    inferred[beyond] = 1
    assert cut_one(box, 4, inferred) == DROPPED


def test_a_view_long_in_the_other_direction_depends_only_on_the_tile_beyond_the_edge() -> None:
    box = (300.0, 300.0, 330.0, 600.0)  # cut on the left; reaches too far down for the tile above
    inferred = all_inferred(SQUARE)
    inferred[3] = 0
    assert cut_one(box, 4, inferred) == KEPT
    inferred[[0, 1, 3]] = (0, 0, 1)
    assert cut_one(box, 4, inferred) == DROPPED


@pytest.mark.parametrize(
    ("box", "tile"),
    [
        ((0.0, 100.0, 30.0, 130.0), 0),
        ((100.0, 0.0, 130.0, 30.0), 0),
        ((970.0, 800.0, 1000.0, 830.0), 8),
        ((800.0, 970.0, 830.0, 1000.0), 8),
    ],
)
def test_the_edges_of_the_image_cut_nothing(box: Box, tile: int) -> None:
    assert cut_one(box, tile, all_inferred(SQUARE)) == KEPT


def test_a_view_that_touches_no_edge_stays() -> None:
    inferred = all_inferred(SQUARE)
    assert cut_one((300 + TOLERANCE, 450, 340, 480), 4, inferred) == DROPPED
    assert cut_one((300 + TOLERANCE + 0.01, 450, 340, 480), 4, inferred) == KEPT


def test_each_pair_of_tiles_counts_with_the_overlap_that_it_has() -> None:
    grid = Grid(1002, 400, 400, 90)
    assert grid.columns == [0, 301, 602]  # widened to 99
    ends = 301 + longest(99)
    assert cut_one((301, 10, ends - 0.01, 40), 1, all_inferred(grid), grid) == DROPPED
    assert cut_one((301, 10, ends + 0.01, 40), 1, all_inferred(grid), grid) == KEPT
    uneven = Grid(1003, 400, 400, 90)
    assert uneven.columns == [0, 302, 603]  # 98 on the one side, 99 on the other
    reach = longest(98.5)
    assert cut_one((302, 10, 302 + reach, 40), 1, all_inferred(uneven), uneven) == KEPT
    assert cut_one((702 - reach, 10, 702, 40), 1, all_inferred(uneven), uneven) == DROPPED


@pytest.mark.parametrize(
    "box", [(300, 450, 700, 480), (300, 300, 700, 700), (300, 450, 450, 480), (450, 302, 480, 698)]
)
def test_what_the_tile_beyond_does_not_show_whole_stays(box: Box) -> None:
    assert cut_one(box, 4, all_inferred(SQUARE)) == KEPT


@pytest.mark.parametrize("grid", [Grid(800, 1200, 400, 0), Grid(300, 200, 400, 399)])
def test_without_overlap_or_neighbours_everything_stays(grid: Grid) -> None:
    for tile, window in enumerate(windows(grid)):
        for x, y in product((0, 1), repeat=2):
            corner = window[:2] + (x, y) * (window[2:] - window[:2] - 10)
            box = (*corner, *(corner + 10))
            assert cut_one(box, tile, all_inferred(grid), grid) == KEPT


def test_no_detections_give_no_decisions() -> None:
    none = np.zeros(0, np.int64)
    assert len(drop_cut_views(np.zeros((0, 4)), none, SQUARE, all_inferred(SQUARE))) == 0
    nothing = Seen(np.zeros((0, 4)), none, np.zeros(0), none)
    assert len(largest_views(nothing, SQUARE)) == 0


@examples(3)
@given(grids(), st.data())
def test_no_object_is_lost_whatever_its_size_and_whichever_tiles_were_inferred(
    grid: Grid, data: st.DataObject
) -> None:
    boxes, tiles = views(grid, data.draw(objects(grid, grid.width, grid.height)))
    inferred = data.draw(states(grid, 0, 1))
    looked = inferred[tiles] == 1
    boxes, tiles = boxes[looked], tiles[looked]
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    off = OFF * rng.choice([-1, -0.5, 0, 0.5, 1], boxes.shape)
    reported = clipped(boxes + off, windows(grid)[tiles])
    decisions = drop_cut_views(reported, tiles, grid, inferred)
    assert not len(tiles) or (decisions == KEPT).any()
    seen = Seen(reported, np.zeros(len(tiles), np.int64), np.ones(len(tiles)), tiles)
    assert not len(tiles) or (largest_views(seen, grid, decisions) == KEPT).any()


@examples(2)
@given(grids(), st.data())
def test_of_an_object_smaller_than_the_overlap_only_whole_views_stay(
    grid: Grid, data: st.DataObject
) -> None:
    assume(longest(grid.overlap) > 1.01)
    least = longest(grid.overlap) - 0.01
    box = data.draw(objects(grid, *np.minimum(least, (grid.width, grid.height))))
    boxes, tiles = views(grid, box)
    decisions = drop_cut_views(boxes, tiles, grid, all_inferred(grid))
    assert (boxes[decisions == KEPT] == box).all()
    assert (decisions == KEPT).any()


@examples(2)
@given(grids(), st.data())
def test_knowing_more_tiles_changes_no_decision_already_made(
    grid: Grid, data: st.DataObject
) -> None:
    boxes, tiles = views(grid, data.draw(objects(grid, grid.width, grid.height)))
    known, told = data.draw(states(grid, 0, 1)), data.draw(states(grid, 0, 1)) == 1
    before = drop_cut_views(boxes, tiles, grid, np.where(told, known, -1).astype(np.int8))
    after = drop_cut_views(boxes, tiles, grid, known)
    assert (after != UNDECIDED).all()
    assert ((before == after) | (before == UNDECIDED)).all()


@examples(2)
@given(grids(), st.data())
def test_rows_and_columns_are_treated_alike(grid: Grid, data: st.DataObject) -> None:
    boxes, tiles = views(grid, data.draw(objects(grid, grid.width, grid.height)))
    inferred = data.draw(states(grid, -1, 0, 1))
    decisions = drop_cut_views(boxes, tiles, grid, inferred)
    turned = Grid(grid.height, grid.width, grid.tile_size, grid.overlap)
    shape = len(grid.rows), len(grid.columns)
    places = np.arange(len(grid)).reshape(shape).T.ravel().argsort()[tiles]
    over = drop_cut_views(boxes[:, [1, 0, 3, 2]], places, turned, inferred.reshape(shape).T.ravel())
    np.testing.assert_array_equal(decisions, over)


# An object from 200 to 550, as the tiles 0 to 400 and 300 to 700 show it.
LEFT, RIGHT = (200.0, 50.0, 400.0, 90.0), (300.0, 50.0, 550.0, 90.0)


def test_of_two_pieces_of_one_object_the_larger_stays() -> None:
    assert largest_views(seen_of([LEFT, RIGHT], [0, 1]), SQUARE).tolist() == [DROPPED, KEPT]


def test_a_piece_is_dropped_for_the_whole_view_which_touches_no_edge() -> None:
    grid = Grid(700, 400, 400, 300)
    whole, piece = (110.0, 50.0, 390.0, 90.0), (110.0, 50.0, 400.0, 90.0)
    assert grid.columns == [0, 100, 200, 300]
    found = largest_views(seen_of([whole, (200, 50, 390, 90), (300, 50, 390, 90)], [1, 2, 3]), grid)
    assert found.tolist() == [KEPT, DROPPED, DROPPED]
    assert largest_views(seen_of([piece, whole], [0, 1]), grid).tolist() == [
        KEPT,
        KEPT,
    ]  # NMS decides


@pytest.mark.parametrize(
    ("boxes", "tiles", "labels"),
    [
        ([LEFT, RIGHT], [0, 1], [0, 1]),
        ([LEFT, (200, 50, 400, 100)], [0, 0], [0, 0]),
        ([LEFT, (300, 50, 550, 125)], [0, 1], [0, 0]),  # IoU 40 : 75 within the shared area
        ([LEFT, (400, 50, 650, 90)], [0, 1], [0, 0]),  # one behind the other
    ],
)
def test_what_is_of_another_class_or_tile_or_object_stays(
    boxes: list[Box], tiles: list[int], labels: list[int]
) -> None:
    assert largest_views(seen_of(boxes, tiles, labels), SQUARE).tolist() == [KEPT, KEPT]


def test_a_piece_that_ends_before_the_edge_is_dropped_for_a_view_that_reaches_beyond_it() -> None:
    for end, found in ((380.1, DROPPED), (380.0, KEPT)):  # of the 100 px that both tiles show
        seen = seen_of([(200, 50, end, 90), RIGHT], [0, 1])
        assert largest_views(seen, SQUARE).tolist() == [found, KEPT]
    whole = (300.0, 50.0, 390.0, 90.0)  # as tile 1 shows it; tile 0 shows less of it, and no edge
    assert largest_views(seen_of([(305, 50, 380, 90), whole], [0, 1]), SQUARE).tolist() == [
        KEPT,
        KEPT,
    ]


def test_a_neighbours_view_that_an_edge_cuts_is_matched_with_the_larger_one_of_that() -> None:
    """Of two ships in boxes that agree, tile 0 shows one whole, and a part of the other."""
    one, part, other = (330, 50, 399, 110), (340, 50, 400, 110), (340, 50, 460, 110)
    seen = seen_of([one, part, other], [0, 0, 1])
    verdicts, cut = np.array([KEPT, DROPPED, KEPT], np.uint8), np.array([False, True, False])
    assert largest_views(seen, SQUARE, verdicts, cut).tolist() == [KEPT, DROPPED, KEPT]
    assert largest_views(seen, SQUARE, verdicts).tolist() == [DROPPED, DROPPED, KEPT]


def test_what_a_tile_finds_in_the_box_of_a_larger_object_of_another_stays() -> None:
    large = (310.0, 50.0, 690.0, 350.0)
    cut = seen_of([(340, 100, 400, 140), (340, 100, 450, 140), large], [0, 1, 1])
    assert largest_views(cut, SQUARE).tolist() == [DROPPED, KEPT, KEPT]
    found_by_one = seen_of([(355, 100, 395, 140), large], [0, 1])
    assert largest_views(found_by_one, SQUARE).tolist() == [KEPT, KEPT]


def band(x: float, y: float, length: float, width: float, degrees: float) -> shapely.Polygon:
    """A long object around its centre."""
    box = shapely.box(x - length / 2, y - width / 2, x + length / 2, y + width / 2)
    turned: shapely.Polygon = shapely.affinity.rotate(box, degrees)
    return turned


def kept_of(outlines: list[shapely.Polygon], grid: Grid) -> list[int]:
    """How many views stay of each object whose bounds each tile reports, after all three rules."""
    everywhere = shapely.box(*windows(grid).T)
    tiles, objects = np.nonzero(shapely.intersects(everywhere[:, None], np.array(outlines)))
    shown = shapely.intersection(everywhere[tiles], np.array(outlines)[objects])
    seen = Seen(shapely.bounds(shown), np.zeros_like(tiles), shapely.area(shown) / 1e6, tiles)
    everything = np.ones(len(grid), bool)
    decisions = merged(seen, grid, all_inferred(grid), everything, iou=0.75)
    counts: list[int] = np.bincount(objects[decisions == KEPT], minlength=len(outlines)).tolist()
    return counts


@pytest.mark.parametrize("overlap", [50, 100, 200])
@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90, 135])
@pytest.mark.parametrize("width", [6, 40])
def test_a_pier_known_only_by_its_boxes_is_one_at_any_angle(
    overlap: int, degrees: float, width: float
) -> None:
    grid = Grid(1200, 1200, 512, overlap)
    for x, y in ((450.0, 500.0), (520.0, 610.0), (600.0, 380.0)):
        assert kept_of([band(x, y, 430, width, degrees)], grid) == [1]


@pytest.mark.parametrize("overlap", [50, 100])
@pytest.mark.parametrize("gap", [40, 80])
def test_no_pier_beside_another_is_lost(overlap: int, gap: int) -> None:
    grid = Grid(1200, 1200, 512, overlap)
    step = (15 + gap) / 2**0.5
    row = [band(650 - k * step, 350 + k * step, 430, 15, 45) for k in range(5)]
    assert min(kept_of(row, grid)) >= 1


sides = st.integers(1, 60)
corners = st.tuples(st.integers(0, 60), st.integers(0, 60), sides, sides)


@examples(2)
@given(corners, corners)
def test_boxes_agree_as_upright_or_as_diagonal_objects(
    one: tuple[int, ...], two: tuple[int, ...]
) -> None:
    grid = Grid(100, 80, 80, 60)  # tiles at 0 and 20
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in (one, two)], float)
    boxes[1, [0, 2]] += 20
    boxes = clipped(boxes, windows(grid))
    assume((area(boxes) > 0).all())
    none, two_tiles = np.zeros(2, np.int64), np.arange(2)
    views = views_of(Shapes.boxes(boxes), none, two_tiles, two_tiles, len(grid))
    set_shared_area(views, Tiling.of(grid), 0, 1)
    assert agreement(views, 0, 1) == pytest.approx(agreed(boxes, (20, 0, 80, 80)), abs=1e-9)


def agreed(boxes: Floats, area_: Box) -> float:
    """The agreement of two boxes by its definition."""
    x, y = np.ptp(boxes[:, [0, 2]]), np.ptp(boxes[:, [1, 3]])
    if y > x:
        boxes, area_ = boxes[:, [1, 0, 3, 2]], (area_[1], area_[0], area_[3], area_[2])
    limits = shapely.box(*area_)
    if not common(boxes[0], boxes[1]):
        return 0.0
    best = shown_iou([shapely.box(*box) for box in boxes], limits)
    least = (boxes[:, 3] - boxes[:, 1]).min()
    for share, falling in product((0, 1 / 32, 1 / 16, 1 / 8, 1 / 4), (False, True)):
        drawn = [diagonal(box, share * least, falling) for box in boxes]
        best = max(best, shown_iou(drawn, limits))
    return best


def diagonal(box: Floats, thickness: float, falling: bool) -> shapely.Geometry:
    x_min, y_min, x_max, y_max = box
    low, high = (y_max, y_min) if falling else (y_min, y_max)
    rise = -thickness if falling else thickness
    return shapely.MultiPoint(
        [(x_min, low), (x_min, low + rise), (x_max, high), (x_max, high - rise)]
    ).convex_hull


def shown_iou(drawn: list[shapely.Geometry], limits: shapely.Polygon) -> float:
    """Intersection over union of the bounds of what an area shows of two shapes."""
    one, two = (np.array(shapely.intersection(shape, limits).bounds) for shape in drawn)
    if len(one) == 0 or len(two) == 0:
        return 0.0
    shared = float(common(one, two))
    return shared / float(area(one) + area(two) - shared) if shared else 0.0


def test_of_two_pairs_side_by_side_none_is_dropped_for_the_wrong_one() -> None:
    """The first object's piece in tile 0 also agrees with the second object's, which is larger."""
    first = [(200.0, 50.0, 400.0, 90.0), (300.0, 50.0, 420.0, 90.0)]
    second = [(250.0, 58.0, 400.0, 98.0), (300.0, 58.0, 690.0, 98.0)]
    seen = seen_of([first[0], second[0], first[1], second[1]], [0, 0, 1, 1])
    assert largest_views(seen, SQUARE).tolist() == [KEPT, DROPPED, DROPPED, KEPT]


def test_views_of_tiles_that_share_no_area_stay() -> None:
    grid = Grid(1000, 400, 400, 0)
    seen = seen_of([LEFT, (400, 50, 550, 90)], [0, 1])
    assert largest_views(seen, grid).tolist() == [KEPT, KEPT]


def test_of_pieces_of_one_size_the_better_stays_and_then_the_first() -> None:
    one, other = (200.0, 50.0, 400.0, 90.0), (300.0, 50.0, 500.0, 90.0)
    seen = seen_of([one, other], [0, 1])
    assert largest_views(seen, SQUARE).tolist() == [KEPT, DROPPED]
    better = seen._replace(scores=np.array([0.5, 0.6]))
    assert largest_views(better, SQUARE).tolist() == [DROPPED, KEPT]


def test_two_long_objects_side_by_side_across_an_edge_both_stay() -> None:
    """Their boxes are almost equal, their outlines share nothing."""
    stripes = [
        shapely.Polygon([(200, 0), (210, 0), (560, 350), (550, 350)]),
        shapely.Polygon([(212, 0), (222, 0), (572, 350), (562, 350)]),
    ]
    tiles = np.array([0, 1, 0, 1])
    geometry = shapely.to_wkb(np.repeat(stripes, 2))
    boxes = shapely.bounds(np.repeat(stripes, 2)).T
    columns = [tiles, range(4), *boxes, np.ones(4), ["road"] * 4, geometry, ["{}"] * 4]
    shapes = shapes_of(pa.table(columns, schema=SCHEMA), SQUARE)
    one_class, kept = np.zeros(4, np.int64), np.full(4, KEPT, np.uint8)
    found = keep_largest_views(shapes, one_class, np.ones(4), tiles, SQUARE, kept)
    assert found.tolist() == [DROPPED, KEPT, DROPPED, KEPT]


@examples(2)
@given(grids(most=0.25), st.data())
def test_of_an_object_no_larger_than_a_tile_no_piece_stays_beside_another_view(
    grid: Grid, data: st.DataObject
) -> None:
    box = data.draw(objects(grid, grid.tile_width, grid.tile_height))
    steps = np.concatenate([np.diff(grid.columns), np.diff(grid.rows)])
    assume((steps < grid.tile_size).all())
    assume((3 * steps >= 2 * grid.tile_size).all())
    boxes, tiles = views(grid, box)
    decisions = drop_cut_views(boxes, tiles, grid, all_inferred(grid))
    seen = Seen(boxes, np.zeros(len(tiles), np.int64), np.ones(len(tiles)), tiles)
    left = boxes[largest_views(seen, grid, decisions) == KEPT]
    assert len(left) == 1 or (left == box).all()


def test_of_many_views_of_one_object_one_stays() -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    tiles = np.sort(rng.integers(0, 2, n))
    boxes = np.where(tiles[:, None] == 0, LEFT, RIGHT) + rng.uniform(-1, 1, (n, 4))
    boxes = clipped(boxes, windows(SQUARE)[tiles])
    seen = Seen(boxes, np.zeros(n, np.int64), rng.random(n), tiles)
    shapes = Shapes.boxes(seen.boxes)
    same = merge_groups(shapes, shapes.areas, tiles, 0.75)
    for state in (KEPT, UNDECIDED):
        decisions = np.full(n, state, np.uint8)
        found = keep_largest_views(shapes, *seen[1:], SQUARE, decisions, representatives=same)
        assert (found[tiles == 0] == (DROPPED if state == KEPT else UNDECIDED)).all()
        assert (found[tiles == 1] == state).all()  # of one tile: these are left to NMS


@st.composite
def crowds(draw: st.DrawFn) -> tuple[Grid, Seen]:
    """Views of some objects, many of them similar, in a grid of few tiles."""
    grid = Grid(
        draw(st.integers(60, 160)),
        draw(st.integers(20, 160)),
        draw(st.integers(30, 60)),
        draw(st.integers(4, 28)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    everywhere = windows(grid)
    boxes, tiles = [], []
    for _ in range(draw(st.integers(1, 12))):
        sides = rng.integers(2, 90, 2)
        low = rng.integers(-10, (grid.width, grid.height))
        shown, where = views(grid, (*low, *(low + sides)))
        boxes.append(clipped(shown + rng.integers(-3, 4, shown.shape), everywhere[where]))
        tiles.append(where)
    found, places = np.concatenate(boxes), np.concatenate(tiles)
    order = np.argsort(places, kind="stable")
    n = len(order)
    labels, scores = rng.integers(0, 2, n), rng.integers(0, 3, n) / 2
    return grid, Seen(found[order], labels, scores, places[order])


def nms_decisions(seen: Seen, doubtful: NDArray[np.bool_], iou: float = 0.5) -> Verdicts:
    """Greedy NMS over all pairs."""
    order = np.argsort(-seen.scores, kind="stable")
    rank = np.argsort(order, kind="stable")
    shared = common(seen.boxes[:, None], seen.boxes)
    union = area(seen.boxes)[:, None] + area(seen.boxes) - shared
    over = (shared > iou * union) & (seen.labels[:, None] == seen.labels)
    blockers, blocked = np.nonzero(over & (rank[:, None] < rank))
    return decide(order, blockers, blocked, doubtful)


def matched(seen: Seen, grid: Grid, present: NDArray[np.int64]) -> dict[tuple[int, int], float]:
    """Pairs of views matched with each other, both ways, by the definition: their agreement."""
    views = views_of(Shapes.boxes(seen.boxes), seen.labels, seen.tiles, present, len(grid))
    pairs = []
    for (i, p), (j, q) in product(enumerate(present.tolist()), repeat=2):
        if seen.tiles[p] < seen.tiles[q] and seen.labels[p] == seen.labels[q]:
            set_shared_area(views, Tiling.of(grid), seen.tiles[p], seen.tiles[q])
            if (agrees := agreement(views, p, q)) > SHARED_IOU:
                pairs.append((-agrees, i, j, p, q))
    found: dict[tuple[int, int], float] = {}
    taken: set[tuple[int, int]] = set()
    for negative, _, _, p, q in sorted(pairs):
        ends = {(p, int(seen.tiles[q])), (q, int(seen.tiles[p]))}
        if not ends & taken:
            taken |= ends
            found[p, q] = found[q, p] = -negative
    return found


def by_definition(
    seen: Seen, grid: Grid, decisions: Verdicts, matching: NDArray[np.bool_]
) -> Verdicts:
    """`keep_largest_views` by its definition, when nothing is undecided."""
    everywhere, found = windows(grid), decisions.copy()
    present = np.flatnonzero((decisions == KEPT) | matching)
    order = present[np.lexsort((-seen.scores[present], -area(seen.boxes[present])))]
    pairs = matched(seen, grid, order)
    for place, p in enumerate(order.tolist()):
        own = everywhere[seen.tiles[p]]
        for q in order[:place].tolist():
            if found[q] == DROPPED or seen.tiles[q] == seen.tiles[p]:
                continue
            way = np.sign(everywhere[seen.tiles[q]][:2] - own[:2])
            inner = np.array([*(own[:2] > 0), *(own[2:] < (grid.width, grid.height))])
            towards = inner & [*(way <= 0), *(way >= 0)]
            reaching = [p, q] if pairs.get((p, q), 0) > CLOSE else [p]
            low, high = seen.boxes[reaching, :2].min(axis=0), seen.boxes[reaching, 2:].max(axis=0)
            towards &= [*(low <= own[:2] + TOLERANCE), *(high >= own[2:] - TOLERANCE)]
            if (p, q) in pairs and towards.any():
                found[p] = DROPPED
    return found


seeds = st.integers(0, 2**32 - 1)  # a crowd may have more views than hypothesis can draw values


@examples(2)
@given(crowds())
def test_pieces_are_dropped_by_their_definition(crowd: tuple[Grid, Seen]) -> None:
    grid, seen = crowd
    rng = np.random.default_rng(len(seen.tiles))
    decisions = rng.choice([DROPPED, KEPT], len(seen.tiles), p=[0.2, 0.8]).astype(np.uint8)
    matching = rng.random(len(seen.tiles)) < 0.5
    expected = by_definition(seen, grid, decisions, matching)
    np.testing.assert_array_equal(largest_views(seen, grid, decisions, matching), expected)


@examples(2)
@given(crowds(), seeds)
def test_deferred_views_are_decided_as_if_all_were_given_at_once(
    crowd: tuple[Grid, Seen], seed: int
) -> None:
    grid, seen = crowd
    random, n = np.random.default_rng(seed), len(seen.tiles)
    cut, deferred = random.random(n) < 0.2, random.random(n) < 0.5
    known = np.where(cut, DROPPED, KEPT).astype(np.uint8)
    together = largest_views(seen, grid, known, cut)
    first = largest_views(seen, grid, np.where(deferred, UNDECIDED, known).astype(np.uint8), cut)
    assert (first[deferred] == UNDECIDED).all()
    later = np.flatnonzero(first == UNDECIDED)
    kept = first == KEPT
    kept[later[largest_views(seen.at(later), grid, known[later], cut[later]) == KEPT]] = True
    np.testing.assert_array_equal(kept, together == KEPT)


@examples(2)
@given(crowds(), seeds)
def test_an_undecided_view_that_is_dropped_later_drops_nothing(
    crowd: tuple[Grid, Seen], seed: int
) -> None:
    grid, seen = crowd
    random, n = np.random.default_rng(seed), len(seen.tiles)
    given = random.choice([KEPT, UNDECIDED], n).astype(np.uint8)
    goes = (random.random(n) < 0.5) & (given == UNDECIDED)
    together = largest_views(seen, grid, np.where(goes, DROPPED, KEPT).astype(np.uint8))
    first = largest_views(seen, grid, given)
    later = np.flatnonzero((first == UNDECIDED) & ~goes)
    kept = first == KEPT
    kept[later[largest_views(seen.at(later), grid) == KEPT]] = True
    np.testing.assert_array_equal(kept, together == KEPT)


def merged(
    seen: Seen,
    grid: Grid,
    inferred: NDArray[np.int8],
    inside: NDArray[np.bool_],
    iou: float = 0.5,
) -> Verdicts:
    """The three rules in order, when only the tiles `inside` are known."""
    edges = drop_cut_views(seen.boxes, seen.tiles, grid, np.where(inside, inferred, np.int8(-1)))
    left = np.flatnonzero(edges != DROPPED)
    foreign = (common(seen.boxes[:, None], windows(grid)[~inside]) > 0).any(axis=1)
    decisions = np.where(foreign, UNDECIDED, DROPPED).astype(np.uint8)
    doubtful = foreign | (edges == UNDECIDED)
    decisions[left] = nms_decisions(seen.at(left), doubtful[left], iou)
    return largest_views(seen, grid, decisions, edges == DROPPED)


@examples(2)
@given(crowds(), st.integers(20, 200), st.data())
def test_regions_and_one_merge_give_the_answer_of_all_at_once(
    crowd: tuple[Grid, Seen], size: int, data: st.DataObject
) -> None:
    grid, seen = crowd
    inferred = data.draw(states(grid, 0, 1, 1))
    seen = seen.at(np.flatnonzero(inferred[seen.tiles] == 1))
    everywhere = np.ones(len(grid), np.bool_)
    kept = np.zeros(len(seen.tiles), np.bool_)
    unknown = kept.copy()
    for region in grid.regions(size):
        inside = np.zeros(len(grid), np.bool_)
        inside[[tile.index for tile in grid.tiles(region)]] = True
        own = np.flatnonzero(inside[seen.tiles])
        decisions = merged(seen.at(own), grid, inferred, inside)
        kept[own], unknown[own] = decisions == KEPT, decisions == UNDECIDED
    later = np.flatnonzero(unknown)
    kept[later] = merged(seen.at(later), grid, inferred, everywhere) == KEPT
    np.testing.assert_array_equal(kept, merged(seen, grid, inferred, everywhere) == KEPT)
