"""Compile the merge ahead of its first run: `python -m tasks.merge`, some 30 s, once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import shapely

from tasks.detections import SCHEMA
from tasks.merge import settle
from tasks.request import Algorithm, AlgorithmType
from tasks.tiling import Grid


def _detections(geometry: bytes | None) -> pa.Table:
    row = {"x_min": 5.0, "y_min": 5.0, "x_max": 15.0, "y_max": 15.0, "geometry": geometry}
    named = row | {"score": 0.5, "class_name": "any", "properties": "{}", "ordinal": 0}
    return pa.Table.from_pylist([named | {"tile": tile} for tile in (0, 1)], SCHEMA)


grid = Grid(40, 20, 20, 10)
for kind in AlgorithmType:
    for outline in (None, shapely.to_wkb(shapely.Point(10, 10).buffer(5))):
        algorithm = Algorithm.model_validate({"algorithmType": kind})
        settle(_detections(outline), algorithm, grid, np.ones(len(grid), np.int8))
