"""Answers in arrays: checked and made detections all at once."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.errors import AnswerError
from tasks.grid.tiles import Tile
from tasks.inference.answer.feature import SLACK
from tasks.inference.endpoint import Boxes
from tasks.results.detections import SCHEMA

Floats = NDArray[np.float64]


def read_boxes(answer: Boxes, tile: Tile) -> tuple[pa.Table | None, str, int]:
    """The detections in an answer, by the contract that features have.

    Returns:
        A table of `detections.SCHEMA`, or None where nothing is left; why the first box that
        is not in it was left out; and how many were.

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
    size = np.array([tile.window.width, tile.window.height] * 2, np.float64)
    sound = _sound(answer, boxes, scores, size)
    first = "" if sound.all() else _why(answer, int(np.argmin(sound)))
    table = _table(answer, tile, np.flatnonzero(sound), np.clip(boxes, 0, size), scores)
    return table, first, int(len(sound) - sound.sum())


def _sound(
    answer: Boxes,
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    size: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Which boxes are finite, ordered and in the tile, with a score in 0 to 1 and a class."""
    low, high = boxes[:, :2], boxes[:, 2:]
    ordered = (low <= high).all(axis=1) & np.isfinite(boxes).all(axis=1)
    inside = ((low <= size[:2] + SLACK) & (high >= -SLACK)).all(axis=1)
    scored = (scores >= 0) & (scores <= 1)
    known = (answer.classes >= 0) & (answer.classes < len(answer.names))
    sound: NDArray[np.bool_] = ordered & inside & scored & known
    return sound


def _why(answer: Boxes, ordinal: int) -> str:
    box, score = answer.boxes[ordinal].tolist(), float(answer.scores[ordinal])
    return (
        f"feature {ordinal}: its box {box}, score {score} and class {answer.classes[ordinal]} of "
        f"{len(answer.names)} are not a finite box in the tile, a score in 0 to 1 and a class"
    )


def _table(
    answer: Boxes,
    tile: Tile,
    rows: NDArray[np.intp],
    boxes: Floats,
    scores: Floats,
) -> pa.Table | None:
    if not len(rows):
        return None
    offset = [tile.window.col_off, tile.window.row_off] * 2
    columns = (boxes[rows] + np.array(offset, np.float64)).T
    names = [answer.names[place] for place in answer.classes[rows].tolist()]
    quoted = {name: json.dumps(name) for name in set(names)}
    scored = scores[rows].tolist()
    properties = [
        f'{{"featureClasses": [{{"iri": {quoted[name]}, "score": {score!r}}}]}}'
        for name, score in zip(names, scored, strict=True)
    ]
    return pa.Table.from_arrays(
        [
            pa.array(np.full(len(rows), tile.index)),
            pa.array(rows.astype(np.int32)),
            *map(pa.array, columns),
            pa.array(scores[rows]),
            pa.array(names, pa.string()),
            pa.nulls(len(rows), pa.binary()),
            pa.array(properties, pa.string()),
        ],
        schema=SCHEMA,
    )
