"""Compile the merge before its first run: `python -m tasks.merge`, about 40 s, once."""

from __future__ import annotations

from itertools import product

import numpy as np
import pyarrow as pa
import shapely

from tasks.grid.tiles import EVERYWHERE, Grid
from tasks.merge.algorithms.nms import nms
from tasks.merge.algorithms.nms_blocks import BLOCK_SIZE
from tasks.merge.distillation import distil
from tasks.request import Algorithm, AlgorithmType
from tasks.results.detections import BOX_COLUMNS, SCHEMA

_BOX = [5.0, 5.0, 15.0, 15.0]
_DISC = shapely.Point(10, 10).buffer(5)
_RING = _DISC.difference(shapely.Point(10, 10).buffer(2))


def _detections(outline: shapely.Polygon | None, views: int, chunk: int) -> pa.Table:
    """Views of one object from each of two tiles, in a table with chunks of `chunk` rows.

    numba compiles a function for each type of its arguments, and the chunks change the types: a
    column of one chunk is read without a copy as a read-only array, a column of several as a
    writable copy. One row and several give different types too.
    """
    row: dict[str, object] = dict(zip(BOX_COLUMNS, _BOX, strict=True))
    row |= {"score": 0.5, "class_name": "any", "properties": "{}", "ordinal": 0}
    row["geometry"] = None if outline is None else shapely.to_wkb(outline)
    rows = [row | {"tile": tile} for tile in (0, 1) for _ in range(views)]
    table = pa.Table.from_pylist(rows, SCHEMA)
    return pa.Table.from_batches(table.to_batches(max_chunksize=chunk))


grid = Grid(40, 20, 20, 10)
tables = [
    _detections(outline, views, chunk)
    for outline, (views, chunk) in product((None, _DISC, _RING), ((1, 2), (1, 1), (2, 4)))
]
for kind in AlgorithmType:
    algorithm = Algorithm.model_validate({"algorithmType": kind})
    for detections in tables:
        distil(detections, algorithm, grid, np.ones(len(grid), np.int8), EVERYWHERE)
count = BLOCK_SIZE + 1
nms([_BOX] * count, np.zeros(count), np.zeros(count, np.int64), 0.75)
