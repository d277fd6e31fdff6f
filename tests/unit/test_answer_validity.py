"""Detections that lie wholly where the image holds no data, and those that touch a pixel of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.inference.answer.validity import ValidPixels, drop_without_data
from tasks.results.detections import SCHEMA

SIDE = 6
WINDOW = Window(20, 40, SIDE, SIDE)


def outlines(corners: list[tuple[float, float]]) -> pa.Table:
    """A detection whose outline has these corners, in pixels of the tile."""
    outline = shapely.Polygon([(x + WINDOW.col_off, y + WINDOW.row_off) for x, y in corners])
    bounds = dict(zip(("x_min", "y_min", "x_max", "y_max"), outline.bounds, strict=True))
    row = {"tile": 0, "ordinal": 0, "score": 1.0, "class_name": "a", "properties": "{}"}
    return pa.Table.from_pylist([row | bounds | {"geometry": outline.wkb}], schema=SCHEMA)


coordinates = st.integers(-4, 4 * (SIDE + 1)).map(lambda number: number / 4 + 0.125)


@given(
    arrays(np.bool_, (SIDE, SIDE), elements=st.booleans()),
    st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=3),
)
def test_an_outline_is_kept_if_it_touches_a_pixel_with_data(
    mask: NDArray[np.bool_], corners: list[tuple[float, float]]
) -> None:
    outline: Any = shapely.Polygon(corners)
    assume(outline.area and outline.intersects(shapely.box(0, 0, SIDE, SIDE)))
    rows, columns = np.nonzero(mask)
    pixels = shapely.box(columns, rows, columns + 1, rows + 1)
    valid = None if mask.all() else ValidPixels(np.packbits(mask), mask.shape)
    kept, dropped = drop_without_data(outlines(corners), WINDOW, valid)
    touches = mask.all() or shapely.intersects(outline, pixels).any()
    assert (kept is not None, dropped) == ((True, 0) if touches else (False, 1))
