"""One feature of a model's answer: read, checked, and moved to pixels of the full image.

OSML's deprecated property names (`bounds_imcoords`, `geom_imcoords`, `detection`, `feature_types`,
`detection_score`, `adjusted_feature_types`) are understood.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np
import shapely
import shapely.geometry
from rasterio.windows import Window

MAX_IRI = 1000
SLACK = 1.0  # pixels that a box may lie outside its tile, for rounding
MAX_DEPTH = 32  # of a feature's own properties; the writers of JSON end at some depth too
_GEOMETRY = ("imageGeometry", "geom_imcoords")
_BOX = ("imageBBox", "bounds_imcoords")
_CLASSES = ("featureClasses", "feature_types", "detection_score", "adjusted_feature_types")
BROKEN = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    shapely.errors.ShapelyError,
)
"""What reading a broken feature raises, the JSON of models being what it is."""


def read_feature(feature: object, window: Window) -> dict[str, Any]:
    """A feature as a row of `detections.SCHEMA`, without its tile and ordinal.

    Args:
        feature: Decoded from JSON, in pixels of the tile.
        window: Of the tile in the image.

    Raises:
        ValueError: What is wrong with it; or another of `BROKEN`.
    """
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
        if name not in (*_GEOMETRY, *_BOX, *_CLASSES) and not _is_outline(name, value)
    } | {"featureClasses": classes}
    _check_depth(own)
    if geometry is not None:
        _check_reach(geometry, window)
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
        "properties": _text(own),
    }


def _first(properties: Mapping[str, Any], names: tuple[str, ...]) -> Any:  # noqa: ANN401
    return next((properties[name] for name in names if properties.get(name) is not None), None)


def _geometry(properties: Mapping[str, Any]) -> shapely.Geometry | None:
    given = _first(properties, _GEOMETRY)
    old = properties.get("detection")
    if given is None and isinstance(old, Mapping) and "pixelCoordinates" in old:
        given = {"type": old["type"], "coordinates": old["pixelCoordinates"]}
    if given is None:
        return None
    if isinstance(given, list):  # `geom_imcoords` is the outline alone
        given = {"type": "Polygon", "coordinates": [given]}
    geometry = shapely.force_2d(shapely.geometry.shape(given))
    if geometry.is_empty or not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise ValueError("its imageGeometry is empty or not finite")
    return geometry


def _check_reach(geometry: shapely.Geometry, window: Window) -> None:
    """Models may guess beyond what they see, but not by more than a tile."""
    x_min, y_min, x_max, y_max = geometry.bounds
    width, height = window.width, window.height
    if x_min < -width or y_min < -height or x_max > 2 * width or y_max > 2 * height:
        raise ValueError("its imageGeometry lies far outside the tile")


def _box(properties: Mapping[str, Any], geometry: shapely.Geometry | None) -> list[float]:
    given = _first(properties, _BOX)
    if given is None:
        if geometry is None:
            raise ValueError("it has neither imageBBox nor imageGeometry")
        given = geometry.bounds
    if isinstance(given, str):
        raise ValueError(f"its imageBBox is not x_min, y_min, x_max, y_max: {given!r:.80}")  # noqa: TRY004
    x_min, y_min, x_max, y_max = map(float, given)
    if not all(map(isfinite, (x_min, y_min, x_max, y_max))) or x_min > x_max or y_min > y_max:
        raise ValueError(f"its imageBBox is not x_min, y_min, x_max, y_max: {given}")
    return [x_min, y_min, x_max, y_max]


def _is_outline(name: str, value: object) -> bool:
    """Whether a property is the `detection` that OSML once had geometries in."""
    return name == "detection" and isinstance(value, Mapping) and "pixelCoordinates" in value


def _clip(box: list[float], window: Window) -> list[float]:
    """The part of a box that lies in its tile; models may guess beyond what they see."""
    right, bottom = window.width + SLACK, window.height + SLACK
    if box[0] > right or box[1] > bottom or box[2] < -SLACK or box[3] < -SLACK:
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


def _text(properties: dict[str, Any]) -> str:
    """Properties as JSON; half a character of UTF-16 cannot be published, so neither can they."""
    text = json.dumps(properties, allow_nan=False, ensure_ascii=False)
    text.encode()
    return text


def _check_depth(value: object, left: int = MAX_DEPTH) -> None:
    if left < 0:
        raise ValueError(f"its properties are nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            _check_depth(inner, left - 1)


def why_broken(error: Exception) -> str:
    """What is wrong with a feature, from one of `BROKEN`."""
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)
