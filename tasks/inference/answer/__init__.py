"""A model's answer about one tile, checked and turned into detections.

An answer is a GeoJSON FeatureCollection in pixels of the tile, arrays of boxes, or a vector about
the whole tile. A malformed feature is rejected and counted; a malformed answer fails its tile.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import Any

import pyarrow as pa

from tasks.errors import AnswerError
from tasks.grid.tiles import Tile
from tasks.inference.answer.boxes import read_boxes
from tasks.inference.answer.feature import MALFORMED, read_feature, reason
from tasks.inference.answer.raster import TileRaster
from tasks.inference.answer.whole_tile import WholeTile, feature_of_vector, read_whole_tile
from tasks.inference.endpoint import Boxes, JsonText, Pixels, RasterFile, Vector
from tasks.inference.excerpt import excerpt
from tasks.inference.tile_decoding import is_raster
from tasks.results import exact_json
from tasks.results.detections import SCHEMA

MAX_FEATURES = 100_000
_LARGE = 1 << 20  # bytes of JSON; the decoded objects take about 20 times the memory
_one_large = Lock()  # one large answer is decoded at a time, to bound the memory
_BOM = b"\xef\xbb\xbf"  # UTF-8 byte order mark
_UNEXPECTED_RASTER = (
    "The answer is a raster, and the request is for features: say in rasterOutput what the raster "
    'holds, such as {"values": "classes"}, or answer with a GeoJSON FeatureCollection.'
)

_NOT_WHOLE = (
    "The answer is no feature about the whole tile, as tileOutput says: answer with a GeoJSON "
    "FeatureCollection of one feature, or leave tileOutput out."
)


@dataclass(frozen=True)
class Answer:
    """What a model found in one tile.

    Attributes:
        detections: Table of `detections.SCHEMA`, in pixels of the full image; None if it would be
            empty.
        first_rejected: Why the first rejected feature was rejected; empty if none was.
        rejected: How many features were rejected.
        map: What it answered for the tile's pixels, as it is kept; None if it answers with
            features.
        views: How many views of the tile it answered for, each in a call of its own.
    """

    detections: pa.Table | None
    first_rejected: str = ""
    rejected: int = 0
    map: bytes | None = None
    views: int = 1


def decode(answer: JsonText) -> Any:  # noqa: ANN401 - any JSON value
    """The JSON value of an answer; the message of an error names the answer's source.

    Raises:
        AnswerError: The answer is not JSON.
    """
    try:
        return parse(answer.body)
    except AnswerError as error:
        raise AnswerError(f"{answer.source}: {error}") from error


def parse(body: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """The JSON value of an answer's body.

    NaN, numbers out of range and lone surrogates are accepted here, as Python's own JSON writer
    emits them. Later only the feature that contains them is rejected.

    Raises:
        AnswerError: The body is not JSON.
    """
    body = body.removeprefix(_BOM)
    try:
        return exact_json.loads(body)
    except ValueError as error:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise AnswerError(f"The answer is not JSON ({error}): {excerpt(body)}") from error


def read_answer(answer: object, tile: Tile) -> Answer:
    """The detections in an answer, moved from pixels of the tile to pixels of the full image.

    Args:
        answer: `Boxes`, `JsonText`, `TileRaster`, `WholeTile`, or decoded JSON: a GeoJSON
            FeatureCollection.
        tile: The tile that the answer is about.

    Raises:
        AnswerError: The answer has another form, or too many features.
    """
    if isinstance(answer, JsonText):
        return _read_text(answer, tile)
    if isinstance(answer, TileRaster):
        return Answer(None, map=answer.encoded(), views=answer.views)
    if isinstance(answer, WholeTile):
        return _read_whole(answer, tile)
    if isinstance(answer, RasterFile):
        raise AnswerError(f"{answer.source}: {_UNEXPECTED_RASTER}")
    if isinstance(answer, Pixels):
        raise AnswerError(_UNEXPECTED_RASTER)
    if isinstance(answer, Boxes):
        _check_count(len(answer.boxes))
        return Answer(*read_boxes(answer, tile))
    return _read_features(_features(answer), tile, lambda one: read_feature(one, tile.window))


def _read_features(
    features: Sequence[object], tile: Tile, read: Callable[[object], dict[str, Any]]
) -> Answer:
    rows, first, rejected = [], "", 0
    for ordinal, feature in enumerate(features):
        try:
            row = read(feature)
        except MALFORMED as error:
            first = first or f"feature {ordinal}: {reason(error)}"
            rejected += 1
        else:
            rows.append({"tile": tile.index, "ordinal": ordinal} | row)
    table = pa.Table.from_pylist(rows, schema=SCHEMA) if rows else None
    return Answer(table, first, rejected)


def _read_whole(given: WholeTile, tile: Tile) -> Answer:
    """The one detection of a tile that the answer is about as a whole; none without an answer."""
    answer, output = given.answer, given.output
    if isinstance(answer, Vector):
        features: list[object] = [feature_of_vector(answer.values, output)]
    elif isinstance(answer, JsonText) and not is_raster(answer.body):
        features = _features(decode(answer))
    elif isinstance(answer, Mapping):
        features = _features(answer)
    else:
        raise AnswerError(_NOT_WHOLE)
    if len(features) > 1:
        raise AnswerError(
            f"The answer has {len(features)} features, and by tileOutput there is one for each "
            "tile: answer with one, which has every class in featureClasses."
        )
    return _read_features(features, tile, lambda one: read_whole_tile(one, output, tile.window))


def _read_text(answer: JsonText, tile: Tile) -> Answer:
    if is_raster(answer.body):
        raise AnswerError(f"{answer.source}: {_UNEXPECTED_RASTER}")
    lock = _one_large if len(answer.body) > _LARGE else nullcontext()
    with lock:
        decoded = decode(answer)
        try:
            return read_answer(decoded, tile)
        except AnswerError as error:
            raise AnswerError(f"{answer.source}: {error}") from error


def _features(answer: object) -> list[object]:
    if not isinstance(answer, Mapping) or answer.get("type") != "FeatureCollection":
        raise AnswerError(f"The answer is not a GeoJSON FeatureCollection: {_excerpt(answer)}")
    features = answer.get("features")
    if not isinstance(features, list):
        raise AnswerError(f"The answer's features are not a list: {_excerpt(features)}")
    _check_count(len(features))
    return features


def _check_count(features: int) -> None:
    if features > MAX_FEATURES:
        raise AnswerError(f"The answer has {features} features, more than {MAX_FEATURES}.")


def _excerpt(value: object) -> str:
    """The beginning of a value for a message, however deep the value is nested."""
    try:
        return f"{value!r:.80}"
    except RecursionError:
        return f"a {type(value).__name__} nested too deep"
