"""The ledger: one line and one state for each tile, in the order of the grid."""

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from tasks.grid.cells import Cells
from tasks.grid.roi import RegionOfInterest
from tasks.grid.tiles import Grid
from tasks.results import coverage
from tasks.results.coverage import (
    TileRecord,
    TileState,
    count,
    failures,
    ledger,
    reasons,
    rejected,
    shares,
)
from tasks.results.coverage_proof import check_complete, measure

GRID = Grid(70, 50, 20, 5)
TILES = [tile for region in GRID.regions(1000) for tile in GRID.tiles(region)]
SQUARE = RegionOfInterest(shapely.box(7, 8, 33, 31) - shapely.box(10, 10, 14, 14))

reason = st.sampled_from(["time-out", "HTTP 500", "not JSON"])
outcome = st.one_of(
    st.sampled_from([TileState.INFERRED, TileState.BLANK, TileState.OUTSIDE]).map(
        lambda s: (s, "")
    ),
    reason.map(lambda why: (TileState.FAILED, why)),
)
outcomes = st.lists(outcome, min_size=len(TILES), max_size=len(TILES))


def records(drawn: list[tuple[TileState, str]]) -> list[TileRecord]:
    return [TileRecord(tile, *found) for tile, found in zip(TILES, drawn, strict=True)]


def test_a_line_has_the_window_and_the_state_of_its_tile() -> None:
    table = ledger([TileRecord(TILES[5], TileState.FAILED, "HTTP 500", attempts=4, rejected=0)])
    assert table.schema == coverage.SCHEMA
    window = TILES[5].window
    assert table.to_pylist() == [
        {
            "tile": 5,
            "x": window.col_off,
            "y": window.row_off,
            "width": 20,
            "height": 20,
            "state": "failed",
            "reason": "HTTP 500",
            "attempts": 4,
            "rejected": 0,
            "without_data": 0,
            "detections": 0,
            "filtered": 0,
            "failed_calls": [],
        }
    ]


def test_a_reason_is_one_line() -> None:
    table = ledger([TileRecord(TILES[0], TileState.FAILED, "HTTP 500:\n <h1>\r\n\tboom ")])
    assert table["reason"].to_pylist() == ["HTTP 500: <h1> boom"]


@given(outcomes, st.randoms(use_true_random=False), st.integers(0, len(TILES)))
def test_the_order_of_records_and_the_division_into_ledgers_do_not_matter(
    drawn: list[tuple[TileState, str]], random: object, cut: int
) -> None:
    whole = ledger(records(drawn))
    shuffled = records(drawn)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    parts = [ledger(shuffled[:cut]), ledger(shuffled[cut:])]
    assert coverage.concatenate(parts).equals(whole)
    assert coverage.concatenate(parts[::-1]).equals(whole)


@given(outcomes)
def test_every_tile_is_counted_in_one_state(drawn: list[tuple[TileState, str]]) -> None:
    counts = count(ledger(records(drawn)))
    assert list(counts) == ["inferred", "blank", "outside", "failed"]
    assert sum(counts.values()) == len(TILES)
    assert counts["failed"] == sum(state is TileState.FAILED for state, _ in drawn)


@given(outcomes)
def test_reasons_are_those_of_failed_tiles_most_frequent_first(
    drawn: list[tuple[TileState, str]],
) -> None:
    table = ledger(records(drawn))
    told = reasons(table)
    assert sum(number for _, number in told) == count(table)["failed"]
    assert [number for _, number in told] == sorted((n for _, n in told), reverse=True)
    whys = [why for state, why in drawn if state is TileState.FAILED]
    assert dict(told) == {why: whys.count(why) for why in whys}


@given(outcomes, st.integers(0, 3), st.integers(0, len(TILES)))
def test_the_first_failures_of_each_frequent_reason_are_listed(
    drawn: list[tuple[TileState, str]], most_reasons: int, most_tiles: int
) -> None:
    table = ledger(records(drawn))
    told = failures(table, most_reasons, most_tiles)
    failed = [(n, why) for n, (state, why) in enumerate(drawn) if state is TileState.FAILED]
    expected = [
        line
        for reason, _ in reasons(table)[:most_reasons]
        for line in [line for line in failed if line[1] == reason][:most_tiles]
    ]
    assert [(line["tile"], line["reason"]) for line in told] == expected
    assert all((line["width"], line["height"]) == (20, 20) for line in told)


def test_calls_are_counted_and_those_that_failed() -> None:
    found = [
        TileRecord(TILES[0], TileState.INFERRED, attempts=1),
        TileRecord(TILES[1], TileState.INFERRED, attempts=3),
        TileRecord(TILES[2], TileState.FAILED, "HTTP 500", attempts=5),
        TileRecord(TILES[3], TileState.FAILED, "unreadable"),
        TileRecord(TILES[4], TileState.BLANK),
    ]
    assert coverage.calls(ledger(found)) == (9, 7)


def finished_ledger(roi: RegionOfInterest | None, *failed: int) -> pa.Table:
    """The ledger of a finished image."""
    found = [
        TileRecord(tile, TileState.OUTSIDE)
        if roi is not None and not roi.meets([tile.window])[0]
        else TileRecord(tile, TileState.FAILED, "HTTP 500")
        if tile.index in failed
        else TileRecord(tile, list(TileState)[tile.index % 2])  # inferred or blank
        for tile in TILES
    ]
    return ledger(found)


@pytest.mark.parametrize("roi", [None, SQUARE])
def test_the_areas_add_up_to_the_region_of_interest(roi: RegionOfInterest | None) -> None:
    table = measure(finished_ledger(roi), Cells.of(GRID, roi))
    assert table.schema == coverage.MEASURED
    check_complete(table, Cells.of(GRID, roi))
    asked = 70 * 50 if roi is None else 26 * 23 - 16
    areas = dict.fromkeys(count(table), 0.0)
    for line in table.to_pylist():
        areas[line["state"]] += line["area_px"]
    assert areas["outside"] == 0
    assert areas["inferred"] + areas["blank"] == pytest.approx(asked)
    parts = shares(table)
    assert parts["inferred"] + parts["blank"] == pytest.approx(1)
    assert parts == pytest.approx({state: area / asked for state, area in areas.items()})


def test_a_failed_tile_takes_the_share_of_its_own_cell() -> None:
    table = measure(finished_ledger(None, 0, 1), Cells.of(GRID, None))
    x, y = (20 + 12) / 2, (20 + 15) / 2  # the middles of the first overlaps
    second = (12 + 20 + 25) / 2 - x
    assert table["area_px"].to_pylist()[:2] == [x * y, second * y]
    assert shares(table)["failed"] == pytest.approx((x + second) * y / (70 * 50))


def test_a_roi_without_an_area_is_shared_by_its_tiles() -> None:
    sliver = RegionOfInterest(shapely.box(5, 5, 5 + 1e-200, 5 + 1e-200))
    table = measure(
        ledger([TileRecord(tile, TileState.OUTSIDE) for tile in TILES[1:]]), Cells.of(GRID, sliver)
    )
    failed = measure(
        ledger([TileRecord(TILES[0], TileState.FAILED, "HTTP 500")]), Cells.of(GRID, sliver)
    )
    assert Cells.of(GRID, sliver).total_area == 0
    assert shares(pa.concat_tables([failed, table]))["failed"] == 1


def test_a_tile_that_meets_the_roi_only_in_its_overlap_has_no_area() -> None:
    roi = RegionOfInterest(shapely.box(18, 2, 26, 10))  # in the second tile's cell
    wanted = [tile.index for tile in TILES if roi.meets([tile.window])[0]]
    table = measure(finished_ledger(roi, 0), Cells.of(GRID, roi))
    assert 0 in wanted
    assert (table["state"][0].as_py(), table["area_px"][0].as_py()) == ("failed", 0)
    check_complete(table, Cells.of(GRID, roi))


def with_areas(table: pa.Table, areas: list[float]) -> pa.Table:
    place = table.column_names.index("area_px")
    return table.set_column(place, coverage.MEASURED.field("area_px"), pa.array(areas))


@given(st.integers(0, len(TILES) - 1), st.floats(1e-4, 1e3))
def test_areas_that_do_not_add_up_are_a_fault(tile: int, missing: float) -> None:
    table = measure(finished_ledger(None), Cells.of(GRID, None))
    areas = table["area_px"].to_pylist()
    areas[tile] -= missing
    with pytest.raises(RuntimeError, match=r"add up to .* px², but .* 3500\.0 px²"):
        check_complete(with_areas(table, areas), Cells.of(GRID, None))


@given(st.sampled_from([tile for tile in TILES if SQUARE.meets([tile.window])[0]]))
def test_a_tile_in_the_roi_that_is_marked_outside_is_a_fault(tile: object) -> None:
    wanted = measure(finished_ledger(SQUARE), Cells.of(GRID, SQUARE))
    states = wanted["state"].to_pylist()
    index = tile.index  # type: ignore[attr-defined]
    states[index] = "outside"
    table = finished_ledger(SQUARE).set_column(5, coverage.SCHEMA.field("state"), pa.array(states))
    table = measure(table, Cells.of(GRID, SQUARE))
    if wanted["area_px"][index].as_py() == 0:
        check_complete(table, Cells.of(GRID, SQUARE))
        return
    with pytest.raises(RuntimeError, match=f"1 tiles, from tile {index} on"):
        check_complete(table, Cells.of(GRID, SQUARE))


def test_a_tile_outside_without_a_region_of_interest_is_a_fault() -> None:
    table = measure(
        finished_ledger(RegionOfInterest(shapely.box(0, 0, 30, 30))), Cells.of(GRID, None)
    )
    with pytest.raises(RuntimeError, match="leaves out"):
        check_complete(table, Cells.of(GRID, None))


@pytest.mark.parametrize("indices", [[0, 1], [0, 1, 1], [0, 1, 3], [0, 0, 1, 2], []])
def test_a_tile_that_is_missing_or_counted_twice_is_a_fault(indices: list[int]) -> None:
    grid = Grid(60, 20, 20, 0)
    table = ledger([TileRecord(TILES[index], TileState.INFERRED) for index in indices])
    with pytest.raises(RuntimeError, match=f"{len(indices)} rows for 3 tiles"):
        check_complete(measure(table, Cells.of(grid, None)), Cells.of(grid, None))


def test_rejected_features_are_summed() -> None:
    found = [TileRecord(tile, TileState.INFERRED, rejected=2) for tile in TILES]
    assert rejected(ledger(found)) == 2 * len(TILES)
    assert rejected(ledger([])) == 0


def test_lines_count_the_detections_of_their_tiles() -> None:
    table = ledger([TileRecord(TILES[place], TileState.INFERRED) for place in (1, 3, 4)])
    counted = coverage.with_detections(table, np.array([3, 1, 3]))
    assert counted["detections"].to_pylist() == [1, 2, 0]
    assert counted.schema == coverage.SCHEMA
    assert coverage.detections(counted) == 3


def test_inferred_tiles_are_marked_and_tiles_without_a_line_are_unknown() -> None:
    states = {0: TileState.INFERRED, 2: TileState.BLANK, 3: TileState.FAILED}
    table = ledger([TileRecord(TILES[place], state) for place, state in states.items()])
    looked = coverage.inferred(table, GRID)
    assert looked[:5].tolist() == [1, -1, 0, 0, -1]
    assert len(looked) == len(GRID)
