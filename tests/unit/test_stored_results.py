"""The results of batches and regions: gathered in one order, stored and loaded."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import PublishError
from tasks.grid.tiles import Grid, Tile
from tasks.results import coverage, detections
from tasks.results.coverage import TileRecord, TileState
from tasks.results.stored import RegionStore, StoredResults
from tasks.results.tile_results import TileResults, gather, without_detections

GRID = Grid(100, 100, 20, 0)
REGIONS = GRID.regions(40)
NO_LINES = coverage.ledger([])
NONE = detections.SCHEMA.empty_table()


def row(tile: int, ordinal: int, **values: Any) -> dict[str, Any]:
    return {
        "tile": tile,
        "ordinal": ordinal,
        "x_min": 0.125,
        "y_min": 1.0,
        "x_max": 2.0,
        "y_max": 3.0,
        "score": 0.1 + 0.2,
        "class_name": "bateau à voile 🛥",
        "geometry": None,
        "properties": "{}",
    } | values


def results(tile: Tile, number: int) -> TileResults:
    rows = [row(tile.index, ordinal) for ordinal in range(number)]
    record = TileRecord(tile, TileState.INFERRED, attempts=1)
    return TileResults(
        pa.Table.from_pylist(rows, schema=detections.SCHEMA), coverage.ledger([record])
    )


@given(st.permutations(range(len(GRID))))
def test_the_order_of_finishing_does_not_matter(order: list[int]) -> None:
    tiles = {tile.index: tile for region in REGIONS for tile in GRID.tiles(region)}
    parts = [results(tiles[index], index % 3) for index in order]
    whole = gather(parts)
    names = zip(
        whole.detections["tile"].to_pylist(), whole.detections["ordinal"].to_pylist(), strict=True
    )
    expected = [(tile, ordinal) for tile in range(len(GRID)) for ordinal in range(tile % 3)]
    assert list(names) == expected
    assert whole.ledger["tile"].to_pylist() == list(range(len(GRID)))


def test_nothing_gathers_to_empty_tables() -> None:
    nothing = gather([])
    assert nothing.detections.schema == detections.SCHEMA
    assert nothing.ledger.schema == coverage.SCHEMA
    assert len(nothing.detections) == len(nothing.ledger) == 0


def test_a_lost_region_has_a_failed_line_for_every_tile() -> None:
    tiles = list(GRID.tiles(REGIONS[1]))
    lost = without_detections(tiles, TileState.FAILED, "out of memory")
    assert len(lost.detections) == 0
    assert lost.ledger["tile"].to_pylist() == sorted(tile.index for tile in tiles)
    assert coverage.reasons(lost.ledger) == [("out of memory", len(tiles))]


def test_stored_results_are_loaded_bit_for_bit(tmp_path: Path) -> None:
    rows = [
        row(3, 0, geometry=b"\x01\x00", properties='{"a":1}'),
        row(3, 1, score=1e-300, x_min=200_000.1),
        row(3, 2),
    ]
    found = pa.Table.from_pylist(rows, detections.SCHEMA)
    record = TileRecord(GRID.tile(0, 3), TileState.FAILED, "ü\u2028?", attempts=4)
    ledger = coverage.ledger([record])
    store = RegionStore(str(tmp_path))
    first = store.save(
        REGIONS[0], 1, [found.slice(0, 1), found.slice(1, 1)], found.slice(2), ledger
    )
    second = store.save(REGIONS[1], 1, [], NONE, NO_LINES)
    assert (first.complete, second.complete) == (False, True)
    stored = StoredResults(store, REGIONS[:2], store.latest(REGIONS), GRID)
    assert (stored.deferred().equals(found.slice(2)), stored.decided) == (True, 2)
    assert pa.concat_tables(stored.all_detections(stored.deferred())).equals(found)
    assert store.ledger(first).equals(ledger)


def test_bands_are_in_the_order_of_tiles_however_regions_lie(tmp_path: Path) -> None:
    found = pa.Table.from_pylist([row(tile, 0) for tile in range(len(GRID))], detections.SCHEMA)
    tiles, store = found["tile"].to_numpy(), RegionStore(str(tmp_path))
    for region in REGIONS:
        own = found.filter(pa.array(np.isin(tiles, [t.index for t in GRID.tiles(region)])))
        even = pa.array(own["tile"].to_numpy() % 2 == 0)
        store.save(region, 1, [own.filter(even)], NONE, NO_LINES)
    merged = found.filter(pa.array(tiles % 2 == 1))
    stored = StoredResults(store, REGIONS, store.latest(REGIONS), GRID)
    assert pa.concat_tables(stored.all_detections(merged)).equals(found)


def test_a_region_that_came_to_nothing_is_left_out(tmp_path: Path) -> None:
    store = RegionStore(str(tmp_path / "missing"))
    assert store.latest(REGIONS) == {}
    stored = store.save(REGIONS[1], 1, [], NONE, NO_LINES)
    assert store.latest(REGIONS) == {REGIONS[1].index: stored}


def test_of_attempts_that_began_together_the_first_to_end_counts(tmp_path: Path) -> None:
    found = pa.Table.from_pylist([row(0, 0)], detections.SCHEMA)
    store = RegionStore(str(tmp_path))
    ended = store.save(REGIONS[0], 1, [found], NONE, NO_LINES)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert store.save(REGIONS[0], 1, [], found, NO_LINES) == ended
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    assert store.load(ended, "decided").equals(found)


def test_an_attempt_that_begins_later_replaces_what_there_was(tmp_path: Path) -> None:
    store = RegionStore(str(tmp_path))
    store.save(REGIONS[0], 1, [], NONE, NO_LINES)
    later = store.save(REGIONS[0], 2, [], NONE, NO_LINES)
    store.save(REGIONS[0], 1, [], NONE, NO_LINES)  # it was thought dead
    assert store.latest(REGIONS) == {REGIONS[0].index: later}


@pytest.mark.parametrize("part", ["decided", "deferred", "ledger"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, part: str) -> None:
    store = RegionStore(str(tmp_path))
    stored = store.save(REGIONS[0], 1, [], NONE, NO_LINES)
    (damaged,) = tmp_path.glob(f"*.{part}.parquet")
    damaged.write_bytes(b"PAR1 and no more")
    with pytest.raises(PublishError, match=damaged.name):
        store.load(stored, part)


def test_of_a_damaged_outcome_the_one_before_counts(tmp_path: Path) -> None:
    store = RegionStore(str(tmp_path))
    before = store.save(REGIONS[0], 1, [], NONE, NO_LINES)
    store.save(REGIONS[0], 2, [], NONE, NO_LINES)
    max(tmp_path.glob("*.json")).write_text('{"parts": 7}')
    assert store.latest(REGIONS) == {REGIONS[0].index: before}
    later = store.save(REGIONS[0], 2, [], NONE, NO_LINES)
    assert store.latest(REGIONS) == {REGIONS[0].index: later}
