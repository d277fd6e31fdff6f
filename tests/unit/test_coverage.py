"""The ledger: each tile in one state, in the order of the grid, and nothing forgotten."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import coverage
from tasks.coverage import TileRecord, TileState, check_complete, count, ledger, reasons, rejected
from tasks.tiling import Grid

GRID = Grid(70, 50, 20, 5)
TILES = [tile for region in GRID.regions(1000) for tile in GRID.tiles(region)]

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


def test_a_line_says_where_the_tile_is_and_what_became_of_it() -> None:
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
        }
    ]


def test_a_reason_is_one_line() -> None:
    table = ledger([TileRecord(TILES[0], TileState.FAILED, "HTTP 500:\n <h1>\r\n\tboom ")])
    assert table["reason"].to_pylist() == ["HTTP 500: <h1> boom"]


@given(outcomes, st.randoms(use_true_random=False), st.integers(0, len(TILES)))
def test_the_order_and_the_cuts_do_not_matter(
    drawn: list[tuple[TileState, str]], random: object, cut: int
) -> None:
    whole = ledger(records(drawn))
    shuffled = records(drawn)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    parts = [ledger(shuffled[:cut]), ledger(shuffled[cut:])]
    assert coverage.concatenate(parts).equals(whole)
    assert coverage.concatenate(parts[::-1]).equals(whole)
    check_complete(whole, len(TILES))


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


@pytest.mark.parametrize("indices", [[0, 1], [0, 1, 1], [0, 1, 3], [0, 0, 1, 2], []])
def test_a_tile_that_is_missing_or_counted_twice_is_a_fault(indices: list[int]) -> None:
    table = ledger([TileRecord(TILES[index], TileState.INFERRED) for index in indices])
    with pytest.raises(RuntimeError, match=f"{len(indices)} lines for 3 tiles"):
        check_complete(table, 3)


def test_rejected_features_are_summed() -> None:
    found = [TileRecord(tile, TileState.INFERRED, rejected=2) for tile in TILES]
    assert rejected(ledger(found)) == 2 * len(TILES)
    assert rejected(ledger([])) == 0
