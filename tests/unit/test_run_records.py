"""Queries of Prefect with more than one page of rows."""

from __future__ import annotations

import pytest

from flows.run_records import read_all


@pytest.mark.parametrize("rows", [0, 1, 199, 200, 201, 400, 1001])
def test_all_rows_are_read_in_order(rows: int) -> None:
    def read(*, limit: int, offset: int) -> list[int]:
        assert limit <= 200, "Prefect's server refuses more"
        return list(range(rows))[offset : offset + limit]

    assert read_all(read) == list(range(rows))
