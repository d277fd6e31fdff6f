"""Answers in arrays: all boxes and outlines are checked and made detections at once."""

from __future__ import annotations

import numpy as np
import orjson
import pyarrow as pa
import shapely
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.errors import AnswerError
from tasks.grid.tiles import Tile
from tasks.inference.answer.feature import SLACK
from tasks.inference.endpoint import Boxes
from tasks.results.detections import SCHEMA, class_properties, quoted

_POLYGONAL = 2  # shapely's dimension of polygons

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Geometries = NDArray[np.object_]


def read_boxes(answer: Boxes, tile: Tile) -> tuple[pa.Table | None, str, int]:
    """The detections in an answer, by the same rules as those for features (`read_feature`).

    Args:
        answer: Boxes, and outlines if there are any, in pixels of the tile.
        tile: The tile that the answer is about.

    Returns:
        A table of `detections.SCHEMA` in pixels of the full image, or None if no box is left; why
        the first rejected box was rejected; and how many were rejected.

    Raises:
        AnswerError: The arrays do not fit each other.
    """
    boxes, scores = np.asarray(answer.boxes, np.float64), np.asarray(answer.scores, np.float64)
    if boxes.shape != (len(scores), 4) or answer.classes.shape != scores.shape:
        raise AnswerError(
            f"The answer's arrays do not fit each other: boxes {boxes.shape}, scores "
            f"{scores.shape}, classes {answer.classes.shape}."
        )
    _check_columns(answer)
    if not len(boxes):
        return None, "", 0
    clipped, inside = clip_boxes(boxes, tile.window)
    accepted = inside & _area_or_point(boxes) & _scored(answer, scores) & _finite(answer)
    if answer.outlines is not None:
        accepted[accepted] = outlines_in_place(answer.outlines[accepted], tile.window)
    first = "" if accepted.all() else _reason(answer, int(np.argmin(accepted)))
    table = _table(answer, tile, np.flatnonzero(accepted), clipped, scores)
    return table, first, int(len(accepted) - accepted.sum())


def clip_boxes(boxes: Floats, window: Window) -> tuple[Floats, Bools]:
    """Boxes of a tile's answer, clipped to the tile and moved to pixels of the full image.

    Args:
        boxes: (n, 4) x_min, y_min, x_max, y_max in pixels of the tile, corner-origin.
        window: The tile's window in the full image.

    Returns:
        (n, 4) the clipped boxes in pixels of the full image; and (n,) True for boxes that are
        finite, ordered and in the tile. A box is in the tile if clipping leaves it an extent along
        each axis. Along an axis in which the box has no extent, it may lie up to `SLACK` outside.
    """
    size = np.array([window.width, window.height], np.float64)
    offset = np.array([window.col_off, window.row_off], np.float64)
    low, high = boxes[:, :2], boxes[:, 2:]
    clipped_low, clipped_high = np.clip(low, 0, size) + offset, np.clip(high, 0, size) + offset
    part_left = (low < high) & (clipped_low < clipped_high)
    beside = (low == high) & (low >= -SLACK) & (low <= size + SLACK)
    inside: Bools = (part_left | beside).all(axis=1) & np.isfinite(boxes).all(axis=1)
    return np.hstack([clipped_low, clipped_high]), inside


def outlines_in_place(outlines: Geometries, window: Window) -> Bools:
    """(n,) True for outlines that are near the tile, and have an area in it.

    Args:
        outlines: (n,) polygons and multi-polygons in pixels of the tile, or None.
        window: The tile's window in the full image.
    """
    width, height = window.width, window.height
    x_min, y_min, x_max, y_max = bounds = shapely.bounds(outlines).T  # NaN of an empty one
    near = (x_min >= -width) & (y_min >= -height) & (x_max <= 2 * width) & (y_max <= 2 * height)
    within = (x_min >= 0) & (y_min >= 0) & (x_max <= width) & (y_max <= height)
    near &= np.isfinite(bounds).all(axis=0) & (shapely.get_dimensions(outlines) == _POLYGONAL)
    near &= np.isfinite(shapely.area(outlines))
    doubtful = near & ~(within & (shapely.area(outlines) > 0))
    # made valid first: the signed areas of a bow-tie's halves may cancel out
    parts = shapely.intersection(
        shapely.make_valid(outlines[doubtful]), shapely.box(0, 0, width, height)
    )
    near[doubtful] = shapely.area(parts) > 0
    placed: Bools = near
    return placed


def _check_columns(answer: Boxes) -> None:
    """Check that outlines and properties have one entry for each box.

    Raises:
        AnswerError: They do not.
    """
    columns = dict(answer.properties)
    if answer.outlines is not None:
        columns["outlines"] = answer.outlines
    for name, column in columns.items():
        if len(column) != len(answer.boxes):
            raise AnswerError(
                f"The answer's arrays do not fit each other: {len(answer.boxes)} boxes, "
                f"{len(column)} {name}."
            )


def _finite(answer: Boxes) -> Bools:
    """(n,) True for boxes whose properties are all finite."""
    finite = np.ones(len(answer.boxes), bool)
    for column in answer.properties.values():
        if column.dtype.kind == "f":
            finite &= np.isfinite(column).reshape(len(column), -1).all(axis=1)
    return finite


def _area_or_point(boxes: Floats) -> Bools:
    """(n,) True for boxes that have an area or are points (x_min = x_max and y_min = y_max)."""
    low, high = boxes[:, :2], boxes[:, 2:]
    found: Bools = (low < high).all(axis=1) | (low == high).all(axis=1)
    return found


def _scored(answer: Boxes, scores: Floats) -> Bools:
    """(n,) True for boxes that have a score from 0 to 1, and a class that has a name."""
    known: Bools = (answer.classes >= 0) & (answer.classes < len(answer.names))
    return known & (scores >= 0) & (scores <= 1)


def _reason(answer: Boxes, ordinal: int) -> str:
    box, score = answer.boxes[ordinal].tolist(), float(answer.scores[ordinal])
    outlined, outline = "", ""
    if answer.outlines is not None:
        outlined = "an outline with an area in the tile, "
        outline = f", its outline is {answer.outlines[ordinal]!s:.200}"
    if answer.properties:
        outlined += "finite properties, "
        own = {name: column[ordinal].tolist() for name, column in answer.properties.items()}
        outline += f", its properties are {own!s:.200}"
    return (
        f"feature {ordinal}: it needs a finite box with an area in the tile or a point in it, "
        f"{outlined}a score from 0 to 1 and a class from 0 to {len(answer.names) - 1}; its box is "
        f"{box} (x_min, y_min, x_max, y_max), its score is {score}, its class is "
        f"{answer.classes[ordinal]}{outline}"
    )


def _table(
    answer: Boxes, tile: Tile, rows: NDArray[np.intp], boxes: Floats, scores: Floats
) -> pa.Table | None:
    if not len(rows):
        return None
    names = [answer.names[number] for number in answer.classes[rows].tolist()]
    names_as_json = {name: quoted(name) for name in set(names)}
    properties = [
        class_properties(names_as_json[name], score, own)
        for name, score, own in zip(
            names, scores[rows].tolist(), _own_properties(answer, rows), strict=True
        )
    ]
    return pa.Table.from_arrays(
        [
            pa.array(np.full(len(rows), tile.index)),
            pa.array(rows.astype(np.int32)),
            *map(pa.array, boxes[rows].T),
            pa.array(scores[rows]),
            pa.array(names, pa.string()),
            _geometries(answer, tile.window, rows),
            pa.array(properties, pa.string()),
        ],
        schema=SCHEMA,
    )


def _geometries(answer: Boxes, window: Window, rows: NDArray[np.intp]) -> pa.Array:
    """The outlines as WKB, moved to pixels of the full image."""
    if answer.outlines is None:
        return pa.nulls(len(rows), pa.binary())
    offset = np.array([window.col_off, window.row_off], np.float64)
    moved = shapely.transform(answer.outlines[rows], lambda points: points + offset)
    return pa.array(shapely.to_wkb(moved), pa.binary())


def _own_properties(answer: Boxes, rows: NDArray[np.intp]) -> list[str]:
    """The properties of each row as members of a JSON object, each after a comma."""
    columns = {name: column[rows].tolist() for name, column in answer.properties.items()}
    texts = [""] * len(rows)
    for name, values in columns.items():
        name_as_json = orjson.dumps(name).decode()
        for row, value in enumerate(values):
            texts[row] += f", {name_as_json}: {orjson.dumps(value).decode()}"
    return texts
