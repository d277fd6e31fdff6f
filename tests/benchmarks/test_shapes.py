"""Overlaps of rotated boxes, and reading them from a table, beside shapely in the same process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from tasks.grid.tiles import Grid
from tasks.merge.shapes import Shapes, shapes_of
from tasks.merge.shapes.overlap import intersection_area
from tasks.results.detections import SCHEMA

SIDE = 200_000  # pixels
OBJECTS = 50_000
ROUNDS = 5
GRID = Grid(SIDE, SIDE, 1024, 128)


@numba.njit
def intersection_areas(
    shapes: Any, firsts: NDArray[np.int64], seconds: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(k,) areas that pairs of shapes share, px²."""
    areas = np.empty(len(firsts))
    for pair in range(len(firsts)):
        areas[pair] = intersection_area(shapes, firsts[pair], seconds[pair])
    return areas


def seen_twice(seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Tiles and (2 * OBJECTS, 4, 2) rotated boxes of 10 to 60 px: each object a bit off its twin.

    Twins are of one tile and lie inside of it, and a quarter of their size apart.
    """
    random = np.random.default_rng(seed)
    tiles = np.sort(random.integers(0, len(GRID), OBJECTS))
    rows, columns = np.divmod(tiles, len(GRID.columns))
    firsts = np.stack([np.array(GRID.columns)[columns], np.array(GRID.rows)[rows]], axis=1)
    centres = firsts + random.uniform(80, 940, (OBJECTS, 2))
    sides = random.uniform(10, 60, (OBJECTS, 2))
    angles = random.uniform(0, np.pi, OBJECTS)
    boxes = []
    for _ in range(2):
        off = random.normal(0, 1, (OBJECTS, 2)) * sides.min(axis=1, keepdims=True) / 4
        turned = angles + random.normal(0, 0.1, OBJECTS)
        along = np.stack([np.cos(turned), np.sin(turned)], axis=1) * sides[:, :1] / 2
        across = np.stack([-np.sin(turned), np.cos(turned)], axis=1) * sides[:, 1:] / 2
        corners = [-along - across, along - across, along + across, across - along]
        boxes.append(np.stack([(centres + off) + corner for corner in corners], axis=1))
    return np.repeat(tiles, 2), np.stack(boxes, axis=1).reshape(-1, 4, 2)


def table(tiles: NDArray[np.int64], polygons: NDArray[np.object_]) -> pa.Table:
    sides = dict(zip(("x_min", "y_min", "x_max", "y_max"), shapely.bounds(polygons).T, strict=True))
    columns = {
        "tile": tiles,
        "ordinal": np.arange(len(tiles), dtype=np.int32),
        **sides,
        "score": np.ones(len(tiles)),
        "class_name": ["ship"] * len(tiles),
        "geometry": pa.array(shapely.to_wkb(polygons), pa.binary()),
        "properties": ["{}"] * len(tiles),
    }
    return pa.table(columns, schema=SCHEMA)


def microseconds(*works: Callable[[], Any]) -> list[float]:
    """CPU of each work, an object or pair, the best of rounds in turns, after one to warm up."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS + 1):
        for times, work in zip(taken, works, strict=True):
            start = time.process_time()
            work()
            times.append((time.process_time() - start) * 1e6)
    return [min(times[1:]) for times in taken]


def test_rotated_boxes_overlap_faster_than_in_shapely() -> None:
    tiles, corners = seen_twice(0)
    polygons = shapely.polygons(corners)
    shapes: Shapes = shapes_of(table(tiles, polygons), GRID)
    firsts = np.arange(0, 2 * OBJECTS, 2)
    one, other = polygons[::2], polygons[1::2]
    ours, theirs = microseconds(
        lambda: intersection_areas(shapes.arrays, firsts, firsts + 1),
        lambda: shapely.area(shapely.intersection(one, other)),
    )
    common = intersection_areas(shapes.arrays, firsts, firsts + 1)
    near = np.repeat(corners[::2, :1], 2, axis=0)  # as seen from there, shapely is exact
    local = shapely.polygons(corners - near)
    np.testing.assert_allclose(
        common, shapely.area(shapely.intersection(local[::2], local[1::2])), rtol=1e-8, atol=1e-6
    )
    line: dict[str, object] = {"benchmark": "overlap of rotated boxes", "pairs": OBJECTS}
    line |= {"overlapping": round(float((common > 0).mean()), 3)}
    line |= {"cpu_us_swath": round(ours / OBJECTS, 3), "cpu_us_shapely": round(theirs / OBJECTS, 3)}
    print(json.dumps(line | {"times_as_fast": round(theirs / ours, 1)}))
    assert theirs / ours >= 30


def test_shapes_are_read_in_about_the_time_of_their_wkb() -> None:
    tiles, corners = seen_twice(1)
    detections = table(tiles, shapely.polygons(corners))
    ours, theirs = microseconds(
        lambda: shapes_of(detections, GRID),
        lambda: shapely.from_wkb(detections["geometry"].to_numpy()),
    )
    line = {"benchmark": "shapes of rotated boxes", "boxes": len(tiles)}
    line |= {"cpu_us_swath": round(ours / len(tiles), 3)}
    print(json.dumps(line | {"cpu_us_from_wkb_alone": round(theirs / len(tiles), 3)}))
