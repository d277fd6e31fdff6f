"""Compile the merge ahead of its first run: `python -m tasks.merge`, some 40 s, once."""

from __future__ import annotations

from itertools import product

import numpy as np
import pyarrow as pa
import shapely

from tasks.grid.tiles import Grid
from tasks.merge import settle
from tasks.merge.blocks import MANY
from tasks.merge.nms import nms
from tasks.request import Algorithm, AlgorithmType
from tasks.results.detections import SCHEMA

_BOX = [5.0, 5.0, 15.0, 15.0]
_DISC = shapely.Point(10, 10).buffer(5)
_RING = _DISC.difference(shapely.Point(10, 10).buffer(2))


def _detections(outline: shapely.Polygon | None, views: int, chunk: int) -> pa.Table:
    """Views of one object from each of two tiles, in chunks of so many rows.

    A column that is one chunk is read as it lies and read-only, of several a copy that is not; for
    numba those are two types. So are one pair of views and a row out of an array of several.
    """
    row: dict[str, object] = dict(zip(("x_min", "y_min", "x_max", "y_max"), _BOX, strict=True))
    row |= {"score": 0.5, "class_name": "any", "properties": "{}", "ordinal": 0}
    row["geometry"] = None if outline is None else shapely.to_wkb(outline)
    rows = [row | {"tile": tile} for tile in (0, 1) for _ in range(views)]
    table = pa.Table.from_pylist(rows, SCHEMA)
    return pa.Table.from_batches(table.to_batches(max_chunksize=chunk))


grid = Grid(40, 20, 20, 10)
seen = [
    _detections(outline, views, chunk)
    for outline, (views, chunk) in product((None, _DISC, _RING), ((1, 2), (1, 1), (2, 4)))
]
for kind in AlgorithmType:
    algorithm = Algorithm.model_validate({"algorithmType": kind})
    for detections in seen:
        settle(detections, algorithm, grid, np.ones(len(grid), np.int8))
nms([_BOX] * (MANY + 1), np.zeros(MANY + 1), np.zeros(MANY + 1, np.int64), 0.75)
