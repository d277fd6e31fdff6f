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
from tasks.results.stored import (
    StoredResults,
    TileResults,
    gather,
    load_ledger,
    save,
    without_detections,
)

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
    save([found.slice(0, 1), found.slice(1, 1)], found.slice(2), ledger, str(tmp_path), REGIONS[0])
    save([], NONE, NO_LINES, str(tmp_path), REGIONS[1])
    stored = StoredResults(str(tmp_path), REGIONS[:2], GRID)
    deferred, decided = stored.deferred()
    assert (deferred.equals(found.slice(2)), decided) == (True, 2)
    assert pa.concat_tables(stored.all_detections(deferred)).equals(found)
    assert load_ledger(str(tmp_path), REGIONS[0]).equals(ledger)


def test_bands_are_in_the_order_of_tiles_however_regions_lie(tmp_path: Path) -> None:
    found = pa.Table.from_pylist([row(tile, 0) for tile in range(len(GRID))], detections.SCHEMA)
    tiles = found["tile"].to_numpy()
    for region in REGIONS:
        own = found.filter(pa.array(np.isin(tiles, [t.index for t in GRID.tiles(region)])))
        even = pa.array(own["tile"].to_numpy() % 2 == 0)
        save([own.filter(even)], NONE, NO_LINES, str(tmp_path), region)
    merged = found.filter(pa.array(tiles % 2 == 1))
    assert pa.concat_tables(
        StoredResults(str(tmp_path), REGIONS, GRID).all_detections(merged)
    ).equals(found)


def test_a_region_without_stored_results_is_an_error(tmp_path: Path) -> None:
    save([], NONE, NO_LINES, str(tmp_path), REGIONS[0])
    with pytest.raises(PublishError, match="region-00001"):
        load_ledger(str(tmp_path), REGIONS[1])


@pytest.mark.parametrize("part", ["decided", "deferred"])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path, part: str) -> None:
    save([], NONE, NO_LINES, str(tmp_path), REGIONS[0])
    (damaged,) = tmp_path.glob(f"*.{part}.parquet")
    damaged.write_bytes(b"PAR1 and no more")
    stored = StoredResults(str(tmp_path), REGIONS[:1], GRID)
    with pytest.raises(PublishError, match=f"region-00000.{part}.parquet"):
        list(stored.all_detections(stored.deferred()[0]))
