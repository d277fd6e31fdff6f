"""Tables of detections become one, in the order of the grid, whoever was answered first."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.results.detections import BOX_COLUMNS, SCHEMA, concatenate

SORTING = [("tile", "ascending"), ("ordinal", "ascending")]


def table(tile: int, rows: int) -> pa.Table:
    return pa.table(
        {
            "tile": np.full(rows, tile),
            "ordinal": pa.array(np.arange(rows), pa.int32()),
            **{name: np.arange(rows) + tile / 2 for name in (*BOX_COLUMNS, "score")},
            "class_name": [f"class {at % 3}" for at in range(rows)],
            "geometry": pa.nulls(rows, pa.binary()),
            "properties": [f'{{"n":{tile}}}'] * rows,
        },
        schema=SCHEMA,
    )


@settings(max_examples=25)
@given(
    tables=st.permutations(range(9)).flatmap(
        lambda tiles: st.tuples(
            *(st.builds(table, st.just(at), st.integers(0, 20)) for at in tiles)
        )
    ),
    parts=st.integers(1, 4),
)
@example(
    tables=tuple(table(tile, 1500 if tile % 3 else 40) for tile in (3, 1, 2, 0, 5, 4)), parts=2
)
@example(tables=tuple(table(tile, 900) for tile in range(40, 0, -1)), parts=1)
def test_detections_are_in_the_order_of_the_grid(tables: tuple[pa.Table, ...], parts: int) -> None:
    several = [pa.concat_tables(tables[at::parts]) for at in range(min(parts, len(tables)))]
    found = concatenate(several)
    found.validate(full=True)
    assert found.equals(pa.concat_tables(tables).sort_by(SORTING))


def test_detections_of_a_tile_that_come_in_two_tables_are_sorted() -> None:
    whole = table(0, 100)
    found = concatenate([whole.filter(pa.array(np.arange(100) % 2 == side)) for side in (1, 0)])
    assert found.equals(whole)


def test_many_detections_that_overtook_others_are_not_copied() -> None:
    tables = [table(tile, 20_000) for tile in (1, 0, 3, 2)]
    before = pa.total_allocated_bytes()
    found = concatenate(tables)
    assert pa.total_allocated_bytes() - before < found.nbytes / 4
    assert found["tile"].to_pylist() == sorted(found["tile"].to_pylist())
