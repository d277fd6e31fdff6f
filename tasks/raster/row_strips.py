"""Cuts the rows of blocks into strips of a bounded size, as blocks may have hundreds of bands."""

from __future__ import annotations

from collections.abc import Iterator

STRIP_BYTES = 16 << 20


def row_strips(rows: int, row_bytes: int) -> Iterator[slice]:
    """Strips of at most `STRIP_BYTES`, or two rows; all but the last have an even number of rows.

    Args:
        rows: Number of rows in all.
        row_bytes: Bytes of a row, all bands together.
    """
    step = max(2, STRIP_BYTES // row_bytes // 2 * 2)
    for top in range(0, rows, step):
        yield slice(top, min(top + step, rows))
