"""The table of detections, from the model's answer to the published files.

One row is one detection. Pixels are of the full image, corner-origin (the centre of the first pixel
is 0.5, 0.5). `tile` and `ordinal`, the position in the model's answer for that tile, identify a
detection independently of the order in which tiles finish; tables are sorted by them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SCHEMA = pa.schema(
    [
        pa.field("tile", pa.int64(), nullable=False),
        pa.field("ordinal", pa.int32(), nullable=False),
        pa.field("x_min", pa.float64(), nullable=False),
        pa.field("y_min", pa.float64(), nullable=False),
        pa.field("x_max", pa.float64(), nullable=False),
        pa.field("y_max", pa.float64(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),  # of the best class
        pa.field("class_name", pa.string(), nullable=False),  # `iri` of the best class
        pa.field("geometry", pa.binary()),  # WKB in pixels; null if the model gave a box only
        pa.field("properties", pa.string(), nullable=False),  # JSON object, as the model gave it
    ]
)


BOX_COLUMNS = ("x_min", "y_min", "x_max", "y_max")
"""The columns of a detection's box, in pixels of the full image."""


def boxes(table: pa.Table) -> NDArray[np.float64]:
    """The boxes of a table, (n, 4): x_min, y_min, x_max, y_max in pixels of the full image."""
    return np.stack([table[name].to_numpy() for name in BOX_COLUMNS], axis=1)


def concatenate(tables: Sequence[pa.Table]) -> pa.Table:
    """Several tables as one, sorted by `tile` and `ordinal`."""
    table = pa.concat_tables([SCHEMA.empty_table(), *tables])
    if _is_sorted(table):  # the usual case, in which a million rows need not be copied
        return table
    return table.sort_by([("tile", "ascending"), ("ordinal", "ascending")])


def _is_sorted(table: pa.Table) -> bool:
    tiles, ordinals = table["tile"].to_numpy(), table["ordinal"].to_numpy()
    steps = np.diff(tiles)
    return bool(((steps > 0) | ((steps == 0) & (np.diff(ordinals) > 0))).all())
