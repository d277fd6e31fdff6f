"""The contract of a model's answer: a FeatureCollection in tile pixels, checked to the end.

One bad feature loses only itself and is counted; a bad answer fails its tile. OSML's deprecated
property names (`bounds_imcoords`, `geom_imcoords`, `feature_types`, `detection_score`) are
understood.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import shapely
import shapely.geometry
from rasterio.windows import Window

from tasks.detections import SCHEMA
from tasks.errors import AnswerError
from tasks.tiling import Tile

MAX_BYTES = 64 * 1024 * 1024
MAX_FEATURES = 100_000
MAX_IRI = 1000
MAX_REACH = 100_000.0  # pixels: no tile is so large
MAX_DEPTH = 32  # of a feature's own properties; the writers of JSON end at some depth too
_GEOMETRY = ("imageGeometry", "geom_imcoords")
_BOX = ("imageBBox", "bounds_imcoords")
# what reading a broken feature raises, the JSON of models being what it is
_BROKEN = (
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    shapely.errors.ShapelyError,
)
_CLASSES = ("featureClasses", "feature_types", "detection_score")


@dataclass(frozen=True)
class Answer:
    """What a model said of one tile.

    Attributes:
        detections: Table of `tasks.detections.SCHEMA`, in pixels of the full image.
        rejected: Why each feature that is not in the table was left out.
    """

    detections: pa.Table
    rejected: tuple[str, ...]


def parse(body: bytes) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The JSON of an answer's body.

    Raises:
        AnswerError: The body is too long, or not JSON.
    """
    if len(body) > MAX_BYTES:
        raise AnswerError(f"The answer has {len(body)} bytes, more than {MAX_BYTES}.")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise AnswerError(f"The answer is not JSON ({error}): {body[:80]!r}") from error


def read_answer(answer: object, tile: Tile) -> Answer:
    """The detections in an answer, moved from pixels of the tile to pixels of the full image.

    Args:
        answer: The decoded JSON: a GeoJSON FeatureCollection.
        tile: The tile that was asked about.

    Raises:
        AnswerError: The answer is not a FeatureCollection, or has too many features.
    """
    rows, rejected = [], []
    for ordinal, feature in enumerate(_features(answer)):
        try:
            rows.append({"tile": tile.index, "ordinal": ordinal} | _row(feature, tile.window))
        except _BROKEN as error:
            rejected.append(f"feature {ordinal}: {_reason(error)}")
    return Answer(pa.Table.from_pylist(rows, schema=SCHEMA), tuple(rejected))


def _features(answer: object) -> list[object]:
    if not isinstance(answer, Mapping) or answer.get("type") != "FeatureCollection":
        raise AnswerError(f"The answer is not a GeoJSON FeatureCollection: {_shown(answer)}")
    features = answer.get("features")
    if not isinstance(features, list):
        raise AnswerError(f"The answer's features are not a list: {_shown(features)}")
    if len(features) > MAX_FEATURES:
        raise AnswerError(f"The answer has {len(features)} features, more than {MAX_FEATURES}.")
    return features


def _row(feature: object, window: Window) -> dict[str, Any]:
    """One feature as a row; raises what is wrong with it."""
    properties = feature["properties"] if isinstance(feature, Mapping) else None
    if not isinstance(properties, Mapping):
        raise ValueError("it has no properties")  # noqa: TRY004 - bad data, not a bad call
    geometry = _geometry(properties)
    box = _clip(_box(properties, geometry), window)
    classes = _classes(properties)
    best = max(classes, key=lambda named: named["score"])
    own = {
        name: value
        for name, value in properties.items()
        if name not in (*_GEOMETRY, *_BOX, *_CLASSES)
    } | {"featureClasses": classes}
    _check_depth(own)
    if geometry is not None:
        offset = (window.col_off, window.row_off)
        geometry = shapely.transform(geometry, lambda points: points + np.array(offset))
    return {
        "x_min": box[0] + window.col_off,
        "y_min": box[1] + window.row_off,
        "x_max": box[2] + window.col_off,
        "y_max": box[3] + window.row_off,
        "score": best["score"],
        "class_name": best["iri"],
        "geometry": None if geometry is None else shapely.to_wkb(geometry),
        "properties": json.dumps(own, allow_nan=False),
    }


def _first(properties: Mapping[str, Any], names: tuple[str, ...]) -> Any:  # noqa: ANN401
    return next((properties[name] for name in names if properties.get(name) is not None), None)


def _geometry(properties: Mapping[str, Any]) -> shapely.Geometry | None:
    given = _first(properties, _GEOMETRY)
    if given is None:
        return None
    if isinstance(given, list):  # `geom_imcoords` is the outline alone
        given = {"type": "Polygon", "coordinates": [given]}
    geometry = shapely.force_2d(shapely.geometry.shape(given))
    if geometry.is_empty or not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise ValueError("its imageGeometry is empty or not finite")
    if max(map(abs, geometry.bounds)) > MAX_REACH:
        raise ValueError("its imageGeometry lies far outside the tile")
    return geometry


def _box(properties: Mapping[str, Any], geometry: shapely.Geometry | None) -> list[float]:
    given = _first(properties, _BOX)
    if given is None:
        if geometry is None:
            raise ValueError("it has neither imageBBox nor imageGeometry")
        given = geometry.bounds
    x_min, y_min, x_max, y_max = map(float, given)
    if not all(map(isfinite, (x_min, y_min, x_max, y_max))) or x_min > x_max or y_min > y_max:
        raise ValueError(f"its imageBBox is not x_min, y_min, x_max, y_max: {given}")
    return [x_min, y_min, x_max, y_max]


def _clip(box: list[float], window: Window) -> list[float]:
    """The part of a box that lies in its tile; models may guess beyond what they see."""
    if box[0] > window.width or box[1] > window.height or box[2] < 0 or box[3] < 0:
        raise ValueError(f"its imageBBox {box} lies outside the tile")
    size = (window.width, window.height) * 2
    return [min(max(value, 0.0), float(limit)) for value, limit in zip(box, size, strict=True)]


def _classes(properties: Mapping[str, Any]) -> list[dict[str, Any]]:
    classes = properties.get("featureClasses")
    if classes is None and isinstance(properties.get("feature_types"), Mapping):
        classes = [{"iri": n, "score": s} for n, s in properties["feature_types"].items()]
    if not isinstance(classes, list) or not classes:
        raise ValueError("it has no featureClasses")
    for named in classes:
        if not isinstance(named["iri"], str) or isinstance(named["score"], bool):
            raise ValueError(f"its class is not an iri and a score: {named}")  # noqa: TRY004
        if not 0 <= named["score"] <= 1:  # also refuses NaN
            raise ValueError(f"its score is not in 0 to 1: {named['score']}")
        if len(named["iri"]) > MAX_IRI:
            raise ValueError(f"its class has an iri longer than {MAX_IRI} characters")
    return [dict(named) for named in classes]


def _shown(value: object) -> str:
    """The beginning of a value for a message, however deep it is nested."""
    try:
        return f"{value!r:.80}"
    except RecursionError:
        return f"a {type(value).__name__} nested too deep"


def _check_depth(value: object, left: int = MAX_DEPTH) -> None:
    if left < 0:
        raise ValueError(f"its properties are nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            _check_depth(inner, left - 1)


def _reason(error: Exception) -> str:
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)
