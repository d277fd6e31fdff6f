"""Settling in regions and then merging the deferred detections equals settling all at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from tasks.grid.tiles import Grid
from tasks.merge import merge, settle
from tasks.merge.compiled import in_python
from tasks.merge.distillation import distil
from tasks.request import Algorithm
from tasks.results import coverage, detections
from tasks.results.coverage import TileRecord, TileState
from tests.examples import examples

GRID = Grid(200, 200, 64, 16)
STATES = [TileState.INFERRED] * 8 + [TileState.FAILED, TileState.BLANK]
NAMES = ["ship", "ship", "crane"]
REGION = GRID.regions(100)[0]
BY_EITHER_MEASURE = ["NMS", "NMM", "DISSOLVE"]
KINDS = ["NMS", "SOFT_NMS", "NMM", "WBF", "DISSOLVE", "NONE"]


def algorithm(kind: str, **fields: Any) -> Algorithm:
    return Algorithm.model_validate({"algorithmType": kind, "iouThreshold": 0.3} | fields)


def row(
    tile: int, ordinal: int, box: tuple[float, ...], score: float = 0.5, name: str = "ship"
) -> dict[str, Any]:
    x_min, y_min, x_max, y_max = box
    return {
        "tile": tile,
        "ordinal": ordinal,
        "x_min": x_min,
        "y_min": y_min,
        "x_max": x_max,
        "y_max": y_max,
        "score": score,
        "class_name": name,
        "geometry": None,
        "properties": f'{{"featureClasses":[{{"iri":"{name}","score":{score}}}]}}',
    }


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=detections.SCHEMA)


def names(found: pa.Table) -> list[tuple[int, int]]:
    return list(zip(found["tile"].to_pylist(), found["ordinal"].to_pylist(), strict=True))


def ledger(states: list[TileState]) -> pa.Table:
    everything = [GRID.tile(*divmod(place, len(GRID.columns))) for place in range(len(GRID))]
    records = [TileRecord(*each) for each in zip(everything, states, strict=True)]
    return coverage.ledger(records)


ALL_INFERRED = ledger([TileState.INFERRED] * len(GRID))


def all_at_once(found: pa.Table, how: Algorithm, lines: pa.Table = ALL_INFERRED) -> pa.Table:
    return settle(found, how, GRID, coverage.inferred(lines, GRID)).decided


def by_regions(found: pa.Table, how: Algorithm, size: int, lines: pa.Table) -> pa.Table:
    """The result of settling each region and merging what they deferred, as the flows do."""
    parts = []
    tiles, line_tiles = found["tile"].to_numpy(), lines["tile"].to_numpy()
    for region in GRID.regions(size):
        own = [tile.index for tile in GRID.tiles(region)]
        looked = coverage.inferred(lines.filter(pa.array(np.isin(line_tiles, own))), GRID)
        mine = found.filter(pa.array(np.isin(tiles, own)))
        parts.append(settle(mine, how, GRID, looked, GRID.interior(region)))
    deferred = detections.concatenate([part.deferred for part in reversed(parts)])
    merged = merge(deferred, how, GRID, lines)
    return detections.concatenate([merged, *(part.decided for part in parts)])


def scene(seed: int, polygons: bool) -> pa.Table:
    """Detections of random objects in all tiles that show them, with noise; and of points."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    centres, halves = random.uniform(0, 200, (40, 2)), random.uniform(1, 30, (40, 2)) / 2
    kinds = random.choice(NAMES, 40)
    points = random.integers(0, 51, (30, 2)) * 4.0  # of which some lie on tile edges
    for tile in range(len(GRID)):
        window = GRID.tile(*divmod(tile, len(GRID.columns))).window
        low = np.array([window.col_off, window.row_off], float)
        for centre, half, kind in zip(centres, halves, kinds, strict=True):
            seen = random.normal([*(centre - half), *(centre + half)], 0.3)
            box = np.clip(seen, np.tile(low, 2), np.tile(low + 64, 2))
            if (box[2:] - box[:2] < 0).any() or random.random() < 0.1:
                continue
            score = float(np.round(random.uniform(0.3, 0.9), 1))
            found = row(tile, len(rows), tuple(box.tolist()), score, str(kind))
            if polygons:
                found["geometry"] = shapely.to_wkb(_leaning(box))
            rows.append(found)
        for x, y in points:
            inside = low[0] <= x <= low[0] + 64 and low[1] <= y <= low[1] + 64
            if inside and random.random() < 0.8:
                score = float(np.round(random.uniform(0.3, 0.9), 1))
                rows.append(row(tile, len(rows), (x, y, x, y), score, str(random.choice(NAMES))))
    return table(*rows)


def _leaning(box: Any) -> shapely.Geometry:
    x_min, y_min, x_max, y_max = box
    lean = (x_max - x_min) / 3
    corners = [(x_min, y_min), (x_max - lean, y_min), (x_max, y_max), (x_min + lean, y_max)]
    return shapely.Polygon(corners)


filters = st.fixed_dictionaries(
    {},
    optional={
        "skipBoxThreshold": st.sampled_from([0.4, 0.6]),
        "classes": st.just(["ship", "crane"]) | st.just(["ship"]),
        "classThresholds": st.fixed_dictionaries({"ship": st.sampled_from([0.0, 0.5, 0.7])}),
    },
)


@examples(0.6)
@given(
    st.integers(0, 10**6),
    st.sampled_from(KINDS),
    st.sampled_from(["IOU", "IOS"]),
    st.sampled_from([0.1, 0.3, 0.5, 0.75]),
    filters,
    st.booleans(),
    st.booleans(),
    st.integers(64, 260),
    st.lists(st.sampled_from(STATES), min_size=len(GRID), max_size=len(GRID)),
)
def test_the_result_does_not_depend_on_the_regions(  # noqa: PLR0917 - drawn one by one
    seed: int,
    kind: str,
    measure: str,
    limit: float,
    wanted: dict[str, Any],
    polygons: bool,
    agnostic: bool,
    size: int,
    states: list[TileState],
) -> None:
    found, lines = scene(seed, polygons), ledger(states)
    looked = [tile for tile, state in enumerate(states) if state is TileState.INFERRED]
    found = found.filter(pa.array(np.isin(found["tile"].to_numpy(), looked)))
    if kind in BY_EITHER_MEASURE:
        wanted = wanted | {"measure": measure}
    how = algorithm(kind, iouThreshold=limit, classAgnostic=agnostic, **wanted)
    expected = all_at_once(found, how, lines)
    assert names(expected) == sorted(names(expected))
    assert by_regions(found, how, size, lines).equals(expected)


@pytest.mark.parametrize("kind", KINDS)
def test_regions_decide_most_themselves(kind: str) -> None:
    found = scene(4, polygons=False)
    region = GRID.regions(300)[0]
    looked = coverage.inferred(ALL_INFERRED, GRID)
    whole = settle(found, algorithm(kind), GRID, looked, GRID.interior(region))
    assert len(whole.deferred) == 0
    half = GRID.regions(120)[0]
    own = found.filter(pa.array(np.isin(found["tile"], [t.index for t in GRID.tiles(half)])))
    settled = settle(own, algorithm(kind), GRID, looked, GRID.interior(half))
    assert len(settled.decided) > 0


def test_a_box_without_an_area_at_an_edge_is_deferred_to_the_tile_beyond_it() -> None:
    row_below = len(GRID.columns)
    found = table(row(0, 0, (10, 64, 30, 64), 0.9), row(row_below, 0, (30, 80, 38, 90), 0.5))
    expected = all_at_once(found, algorithm("NMS"))
    assert names(expected) == [(row_below, 0)]
    assert by_regions(found, algorithm("NMS"), 64, ALL_INFERRED).equals(expected)


POINT = (56.0, 20.0, 56.0, 20.0)  # in tiles 0 and 1
LINE = (56.0, 20.0, 56.0, 30.0)


@pytest.mark.parametrize("size", [64, 300])
@pytest.mark.parametrize("box", [POINT, LINE])
@pytest.mark.parametrize("fields", [{}, {"sigma": 100}, {"iouThreshold": 1}, {"edgeRule": False}])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "NONE"])
def test_equal_boxes_without_an_area_from_two_tiles_are_one_detection(
    kind: str, fields: dict[str, float], box: tuple[float, ...], size: int
) -> None:
    found = table(row(0, 0, box, 0.5), row(1, 0, box, 0.9), row(1, 1, box, 0.9))
    left = by_regions(found, algorithm(kind, **fields), size, ALL_INFERRED)
    assert left.select(["tile", "ordinal", "x_min", "x_max", "geometry"]).to_pylist() == [
        {"tile": 1, "ordinal": 0, "x_min": 56, "x_max": 56, "geometry": None}
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_points_of_other_classes_or_places_stay(kind: str) -> None:
    found = table(
        row(0, 0, POINT, 0.9),
        row(0, 1, LINE, 0.9),
        row(0, 2, (57, 20, 57, 20), 0.9),
        row(1, 0, POINT, 0.9, "crane"),
    )
    assert names(all_at_once(found, algorithm(kind))) == names(found)
    agnostic = all_at_once(found, algorithm(kind, classAgnostic=True))
    assert names(agnostic) == (names(found) if kind == "NONE" else names(found)[:-1])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "NONE"])
def test_a_point_that_the_edge_rule_drops_does_not_stand_for_another(kind: str) -> None:
    """The best view touches an edge of its tile, and the tile beyond was inferred."""
    grid_start = float(GRID.columns[1])
    point = (grid_start + 1, 20.0, grid_start + 1, 20.0)
    found = table(row(0, 0, point, 0.5), row(1, 0, point, 0.9))
    whole = all_at_once(found, algorithm(kind))
    assert names(whole) == ([(1, 0)] if kind == "DISSOLVE" else [(0, 0)])
    assert by_regions(found, algorithm(kind), 64, ALL_INFERRED).equals(whole)


@pytest.mark.parametrize("limit", [0.0, 0.1])
def test_a_mean_that_grows_in_another_region_absorbs_nothing_already_decided(limit: float) -> None:
    found = table(
        row(0, 0, (10, 0, 50, 10), 0.9),
        row(0, 1, (10, 11, 35, 18), 0.3),
        row(1, 0, (48, 0, 70, 26), 0.8),
    )
    how = algorithm("WBF", iouThreshold=limit, edgeRule=False)
    expected = all_at_once(found, how)
    assert by_regions(found, how, 64, ALL_INFERRED).equals(expected)


SEEN_TWICE = table(
    row(0, 0, (50, 10, 60, 20), 0.6),
    row(0, 1, (0, 0, 10, 10), 0.4),
    row(1, 0, (50, 10, 60, 20.5), 0.9),
    row(1, 1, (50, 10, 60, 20), 0.6, "crane"),
)


def test_the_best_of_what_was_seen_twice_stays_whole() -> None:
    merged = all_at_once(SEEN_TWICE, algorithm("NMS"))
    assert names(merged) == [(0, 1), (1, 0), (1, 1)]
    assert merged.equals(SEEN_TWICE.slice(1))


def test_classes_may_be_one_object_where_asked_for() -> None:
    merged = all_at_once(SEEN_TWICE, algorithm("NMS", classAgnostic=True))
    assert names(merged) == [(0, 1), (1, 0)]


def test_none_keeps_every_detection() -> None:
    assert all_at_once(SEEN_TWICE, algorithm("NONE")).equals(SEEN_TWICE)


@pytest.mark.parametrize(
    ("kind", "limit", "left"),
    [
        ("NONE", 0, [(0, 0), (0, 1), (1, 0), (1, 1)]),
        ("NONE", 0.6, [(0, 0), (1, 0), (1, 1)]),
        ("NONE", 0.91, []),
        ("NMS", 0.6, [(1, 0), (1, 1)]),
        ("NMS", 1, []),
        ("NMM", 0.5, [(1, 0), (1, 1)]),
        ("WBF", 0.5, [(1, 0), (1, 1)]),
        ("DISSOLVE", 0.5, [(1, 0), (1, 1)]),
    ],
)
def test_scores_below_the_threshold_are_dropped(
    kind: str, limit: float, left: list[tuple[int, int]]
) -> None:
    assert names(all_at_once(SEEN_TWICE, algorithm(kind, skipBoxThreshold=limit))) == left


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("kind", ["NMS", "NMM", "WBF", "DISSOLVE", "NONE"])
def test_the_filter_is_as_if_the_model_had_not_given_what_it_drops(
    kind: str, agnostic: bool
) -> None:
    found = scene(7, polygons=True)
    rows = [
        row
        for row in found.to_pylist()
        if row["score"] >= {"crane": 0.5, "ship": 0.7}[row["class_name"]]
    ]
    options = {"classAgnostic": agnostic, "iouThreshold": 0.1}
    expected = all_at_once(table(*rows), algorithm(kind, **options))
    wanted = {"skipBoxThreshold": 0.5, "classThresholds": {"ship": 0.7}}
    assert all_at_once(found, algorithm(kind, **options, **wanted)).equals(expected)
    only = all_at_once(found, algorithm(kind, **options, classes=["crane"]))
    cranes = [row for row in found.to_pylist() if row["class_name"] == "crane"]
    assert len(cranes) > 10
    assert only.equals(all_at_once(table(*cranes), algorithm(kind, **options)))


def test_soft_nms_applies_a_class_threshold_to_the_new_scores() -> None:
    def left(**wanted: Any) -> list[tuple[int, int]]:
        return names(all_at_once(overlapping, algorithm("SOFT_NMS", edgeRule=False, **wanted)))

    overlapping = table(
        row(0, 0, (10, 10, 30, 30), 0.9),
        row(0, 1, (12, 10, 32, 30), 0.8),
        row(0, 2, (10, 10, 30, 30), 0.8, "crane"),
    )
    assert left() == [(0, 0), (0, 1), (0, 2)]
    assert left(classThresholds={"ship": 0.3}) == [(0, 0), (0, 2)]
    assert left(classThresholds={"crane": 0.3}, classAgnostic=True) == [(0, 0), (0, 1)]


@pytest.mark.parametrize("kind", BY_EITHER_MEASURE)
def test_by_the_smaller_a_fragment_within_an_object_of_another_tile_is_that_object(
    kind: str,
) -> None:
    found = table(row(0, 0, (50, 20, 58, 28), 0.4), row(1, 0, (49, 10, 75, 36), 0.9))
    by_union = all_at_once(found, algorithm(kind, iouThreshold=0.5))
    assert len(by_union) == (1 if kind == "DISSOLVE" else 2)
    left = all_at_once(found, algorithm(kind, iouThreshold=0.5, measure="IOS"))
    assert left.select(["x_min", "y_min", "x_max", "y_max"]).to_pylist() == [
        {"x_min": 49, "y_min": 10, "x_max": 75, "y_max": 36}
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_merges_to_nothing(kind: str) -> None:
    merged = all_at_once(table(), algorithm(kind))
    assert len(merged) == 0
    assert merged.schema == detections.SCHEMA


def test_a_view_that_an_edge_cuts_gives_way_unless_the_rule_is_off() -> None:
    start = GRID.columns[1]
    cut = table(
        row(0, 0, (start + 12, 10, 64, 20), 0.9),
        row(1, 0, (start + 12, 10, start + 40, 20), 0.5),
    )
    assert names(all_at_once(cut, algorithm("NMS"))) == [(1, 0)]
    assert len(all_at_once(cut, algorithm("NMS", edgeRule=False))) == 2
    states = [TileState.INFERRED] * len(GRID)
    states[1] = TileState.FAILED
    alone = all_at_once(cut.slice(0, 1), algorithm("NMS"), ledger(states))
    assert names(alone) == [(0, 0)]


def _outlines(seed: int, count: int) -> pa.Table:
    """Crowded views with outlines of every kind, sides from 1e-9 to 200 px, and equal boxes."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for ordinal in range(count):
        x, y = random.choice([random.uniform(0, 200, 2), np.array([40.0, 50.0])])
        side = float(random.choice([0.0, 1e-9, 1.0, 20.0, 200.0])) * random.choice([0.5, 1.0])
        found = row(
            int(random.integers(len(GRID))),
            ordinal,
            (float(x), float(y), float(x + side), float(y + side / 2)),
            float(np.round(random.uniform(0.3, 0.9), 1)),
            str(random.choice(NAMES)),
        )
        disc = shapely.Point(x, y).buffer(side / 2 + 1, quad_segs=2)
        outline = random.choice(
            [None, disc, disc.difference(shapely.Point(x, y).buffer(0.5)), shapely.Point(x, y)]
        )
        found["geometry"] = None if outline is None else shapely.to_wkb(outline)
        rows.append(found)
    return table(*sorted(rows, key=lambda each: (each["tile"], each["ordinal"])))


@examples(0.6)
@given(
    st.integers(0, 10**6),
    st.integers(1, 60),
    st.sampled_from(KINDS),
    st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.75, 1.0]),
    st.sampled_from(["LINEAR", "GAUSSIAN"]),
)
def test_python_and_machine_code_decide_the_same(
    seed: int, count: int, kind: str, threshold: float, method: str
) -> None:
    how = algorithm(kind, iouThreshold=threshold, method=method)
    inferred = coverage.inferred(ALL_INFERRED, GRID)
    for found in (_outlines(seed, count), scene(seed, False), scene(seed, True)):
        with in_python():
            table_, stay, deferred = distil(found, how, GRID, inferred, GRID.interior(REGION))
        other, other_stay, other_deferred = distil(
            found, how, GRID, inferred, GRID.interior(REGION)
        )
        assert table_.equals(other)
        assert stay.tolist() == other_stay.tolist()
        assert deferred.equals(other_deferred)
