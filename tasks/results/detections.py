"""The table of detections, from the model's answer to the published files.

One row is one detection. Pixels are of the full image, corner-origin (the centre of the first pixel
is 0.5, 0.5). `tile` and `ordinal`, the position in the model's answer for that tile, identify a
detection independently of the order in which tiles finish; tables are sorted by them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

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


EMBEDDING = "embedding"
"""The property that holds the vector of a whole tile, and the class of a detection that has one."""


def boxes(table: pa.Table) -> NDArray[np.float64]:
    """The boxes of a table, (n, 4): x_min, y_min, x_max, y_max in pixels of the full image."""
    return np.stack([table[name].to_numpy() for name in BOX_COLUMNS], axis=1)


def quoted(name: str) -> str:
    """A class's name as JSON, as it stands in `properties`."""
    return json.dumps(name, ensure_ascii=False)


def class_properties(quoted_name: str, score: float, further: str = "") -> str:
    """The `properties` of a detection of one class.

    Args:
        quoted_name: Name of the class, from `quoted`.
        score: Its score.
        further: Other members of the object, each after a comma.
    """
    return f'{{"featureClasses": [{{"iri": {quoted_name}, "score": {score!r}}}]{further}}}'


_FEW, _COPIED = 1 << 10, 1 << 14  # rows of slices that are copied, and of what they become
_SHORTEST = 8  # rows of slices on average, below which sorting takes less time


def concatenate(tables: Sequence[pa.Table]) -> pa.Table:
    """Several tables as one, sorted by `tile` and `ordinal`.

    Where many rows lie together they are not copied: answers with a million of them may have
    overtaken each other.
    """
    table = pa.concat_tables([SCHEMA.empty_table(), *tables])
    tiles, ordinals = table["tile"].to_numpy(), table["ordinal"].to_numpy()
    steps = np.diff(tiles)
    if ((steps > 0) | ((steps == 0) & (np.diff(ordinals) > 0))).all():  # the usual case
        return table
    order = np.lexsort([ordinals, tiles])
    together = np.count_nonzero(np.diff(order) != 1) + 1
    if together * _SHORTEST > len(table):
        return table.sort_by([("tile", "ascending"), ("ordinal", "ascending")])
    return pa.Table.from_batches(_few_together(_slices(table, order)), SCHEMA)


def _slices(table: pa.Table, order: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    """The rows of a table in an order, in slices of rows that lie together."""
    batches = table.to_batches()
    ends = np.cumsum([len(batch) for batch in batches])
    first = np.zeros(len(table) + 1, bool)  # of a batch
    first[ends] = True
    starts = np.flatnonzero((np.diff(order, prepend=-2) != 1) | first[order])
    lengths = np.diff(starts, append=len(order))
    owners = np.searchsorted(ends, order[starts], side="right")
    offsets = order[starts] - np.concatenate([[0], ends])[owners]
    for owner, offset, length in zip(owners, offsets, lengths, strict=True):
        yield batches[owner].slice(offset, length)


def _few_together(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches, of which neighbours with few rows are made one."""
    few: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        if few and (len(batch) >= _FEW or rows >= _COPIED):
            yield pa.concat_batches(few)
            few, rows = [], 0
        if len(batch) >= _FEW:
            yield batch
        else:
            few.append(batch)
            rows += len(batch)
    if few:
        yield pa.concat_batches(few)
