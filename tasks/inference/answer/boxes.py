"""Answers in arrays: all boxes are checked, clipped and made detections at once."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.errors import AnswerError
from tasks.grid.tiles import Tile
from tasks.inference.answer.feature import SLACK
from tasks.inference.endpoint import Boxes
from tasks.results.detections import SCHEMA

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def read_boxes(answer: Boxes, tile: Tile) -> tuple[pa.Table | None, str, int]:
    """The detections in an answer, by the same rules as those for features (`read_feature`).

    Args:
        answer: Boxes in pixels of the tile.
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
    if not len(boxes):
        return None, "", 0
    clipped, inside = clip_boxes(boxes, tile.window)
    accepted = inside & _area_or_point(boxes) & _scored(answer, scores)
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
    return (
        f"feature {ordinal}: it needs a finite box with an area in the tile or a point in it, a "
        f"score from 0 to 1 and a class from 0 to {len(answer.names) - 1}; its box is {box} "
        f"(x_min, y_min, x_max, y_max), its score is {score}, its class is "
        f"{answer.classes[ordinal]}"
    )


def _table(
    answer: Boxes, tile: Tile, rows: NDArray[np.intp], boxes: Floats, scores: Floats
) -> pa.Table | None:
    if not len(rows):
        return None
    names = [answer.names[number] for number in answer.classes[rows].tolist()]
    quoted = {name: json.dumps(name) for name in set(names)}
    properties = [
        f'{{"featureClasses": [{{"iri": {quoted[name]}, "score": {score!r}}}]}}'
        for name, score in zip(names, scores[rows].tolist(), strict=True)
    ]
    return pa.Table.from_arrays(
        [
            pa.array(np.full(len(rows), tile.index)),
            pa.array(rows.astype(np.int32)),
            *map(pa.array, boxes[rows].T),
            pa.array(scores[rows]),
            pa.array(names, pa.string()),
            pa.nulls(len(rows), pa.binary()),
            pa.array(properties, pa.string()),
        ],
        schema=SCHEMA,
    )
