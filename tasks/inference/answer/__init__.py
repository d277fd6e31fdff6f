"""The contract of a model's answer, checked to the end.

An answer is a GeoJSON FeatureCollection in tile pixels, or arrays of boxes. One bad feature loses
only itself and is counted; a bad answer fails its tile.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any

import orjson
import pyarrow as pa

from tasks.errors import AnswerError
from tasks.grid.tiles import Tile
from tasks.inference.answer.boxes import read_boxes
from tasks.inference.answer.feature import BROKEN, read_feature, why_broken
from tasks.inference.endpoint import Boxes, JsonText
from tasks.results.detections import SCHEMA

MAX_FEATURES = 100_000
_LARGE = 1 << 20  # bytes of an answer; decoded, it takes 20 times as many
_large = Lock()  # so that one such answer at a time is decoded
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Answer:
    """What a model said of one tile.

    Attributes:
        detections: Table of `detections.SCHEMA`, in pixels of the full image; None where
            there are none.
        first_rejected: Why the first feature that is not in the table was left out.
        rejected: How many were.
    """

    detections: pa.Table | None
    first_rejected: str = ""
    rejected: int = 0


def decode(answer: JsonText) -> Any:  # noqa: ANN401 - whatever JSON holds
    """An answer in JSON, decoded.

    Raises:
        AnswerError: It is not JSON; with who gave it.
    """
    try:
        return parse(answer.body)
    except AnswerError as error:
        raise AnswerError(f"{answer.source}: {error}") from error


def parse(body: bytes) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The JSON of an answer's body.

    NaN, numbers too large and broken text, which Python's own writer of JSON lets pass, cost their
    features and not the tile.

    Raises:
        AnswerError: The body is not JSON.
    """
    body = body.removeprefix(_BOM)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise AnswerError(f"The answer is not JSON ({error}): {body[:80]!r}") from error


def read_answer(answer: object, tile: Tile) -> Answer:
    """The detections in an answer, moved from pixels of the tile to pixels of the full image.

    Args:
        answer: `Boxes`, `JsonText`, or decoded JSON: a GeoJSON FeatureCollection.
        tile: The tile that was asked about.

    Raises:
        AnswerError: It is neither, or has too many features.
    """
    if isinstance(answer, JsonText):
        return _read_text(answer, tile)
    if isinstance(answer, Boxes):
        _check_count(len(answer.boxes))
        table, first, rejected = read_boxes(answer, tile)
        return Answer(table, first, rejected)
    rows, first, rejected = [], "", 0
    for ordinal, feature in enumerate(_features(answer)):
        try:
            row = read_feature(feature, tile.window)
        except BROKEN as error:
            first = first or f"feature {ordinal}: {why_broken(error)}"
            rejected += 1
        else:
            rows.append({"tile": tile.index, "ordinal": ordinal} | row)
    table = pa.Table.from_pylist(rows, schema=SCHEMA) if rows else None
    return Answer(table, first, rejected)


def _read_text(answer: JsonText, tile: Tile) -> Answer:
    turn = _large if len(answer.body) > _LARGE else nullcontext()
    with turn:
        decoded = decode(answer)
        try:
            return read_answer(decoded, tile)
        except AnswerError as error:
            raise AnswerError(f"{answer.source}: {error}") from error


def _features(answer: object) -> list[object]:
    if not isinstance(answer, Mapping) or answer.get("type") != "FeatureCollection":
        raise AnswerError(f"The answer is not a GeoJSON FeatureCollection: {_shown(answer)}")
    features = answer.get("features")
    if not isinstance(features, list):
        raise AnswerError(f"The answer's features are not a list: {_shown(features)}")
    _check_count(len(features))
    return features


def _check_count(features: int) -> None:
    if features > MAX_FEATURES:
        raise AnswerError(f"The answer has {features} features, more than {MAX_FEATURES}.")


def _shown(value: object) -> str:
    """The beginning of a value for a message, however deep it is nested."""
    try:
        return f"{value!r:.80}"
    except RecursionError:
        return f"a {type(value).__name__} nested too deep"
