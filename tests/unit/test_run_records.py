"""Queries of Prefect with more than one page of rows."""

from __future__ import annotations

import pytest

from flows.run_records import read_all, read_pages


@pytest.mark.parametrize("rows", [0, 1, 199, 200, 201, 400, 1001])
def test_all_rows_are_read_in_order(rows: int) -> None:
    def read(*, limit: int, offset: int) -> list[int]:
        assert limit <= 200, "Prefect's server refuses more"
        return list(range(rows))[offset : offset + limit]

    assert read_all(read) == list(range(rows))


def test_a_page_is_read_after_the_one_before_it_is_done() -> None:
    pages: list[int] = []

    def read(*, limit: int, offset: int) -> list[int]:
        pages.append(offset)
        return list(range(offset, offset + limit))

    rows = read_pages(read)
    assert next(rows) == 0
    assert pages == [0]
