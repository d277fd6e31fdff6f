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

from tasks.results.detections import BOX_COLUMNS

MAX_IRI = 1000  # characters of a class's iri
MAX_DEPTH = 32  # levels of nested properties; JSON writers have a limit too
SLACK = 1.0  # pixels by which a point may lie outside its tile, to allow for rounding
_GEOMETRY = ("imageGeometry", "geom_imcoords")
_BOX = ("imageBBox", "bounds_imcoords")
_CLASSES = ("featureClasses", "feature_types", "detection_score", "adjusted_feature_types")
PLACES = (*_GEOMETRY, *_BOX, "detection")
"""The properties that say where in its tile a feature is."""

_POLYGONAL = 2  # shapely's dimension of polygons
MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    shapely.errors.ShapelyError,
)
"""The exceptions of `read_feature` for a malformed feature: a model may send any JSON."""


def read_feature(feature: object, window: Window) -> dict[str, Any]:
    """A feature as a row of `detections.SCHEMA`, without its tile and ordinal.

    Args:
        feature: Decoded from JSON, in pixels of the tile.
        window: The tile's window in the full image.

    Raises:
        ValueError: The feature is malformed; the message says how. Other exceptions of `MALFORMED`
            mean the same.
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
        _check_place(geometry, window)
        offset = (window.col_off, window.row_off)
        geometry = shapely.transform(geometry, lambda points: points + np.array(offset))
    return {
        **dict(zip(BOX_COLUMNS, box, strict=True)),
        "score": best["score"],
        "class_name": best["iri"],
        "geometry": None if geometry is None else shapely.to_wkb(geometry),
        "properties": _text(own),
    }


def reason(error: Exception) -> str:
    """The reason for which a feature is rejected, from an exception of `MALFORMED`."""
    return f"it has no {error}" if isinstance(error, KeyError) else str(error)


def _first_given(properties: Mapping[str, Any], names: tuple[str, ...]) -> Any:  # noqa: ANN401
    return next((properties[name] for name in names if properties.get(name) is not None), None)


def _geometry(properties: Mapping[str, Any]) -> shapely.Geometry | None:
    given = _first_given(properties, _GEOMETRY)
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


def _check_place(geometry: shapely.Geometry, window: Window) -> None:
    """Refuse a geometry that is far from the tile, and a polygon without an area in the tile.

    A geometry is published as the model gave it: a model may complete an object that the tile's
    edge cuts, but not by more than the tile's size.
    """
    x_min, y_min, x_max, y_max = geometry.bounds
    width, height = window.width, window.height
    if x_min < -width or y_min < -height or x_max > 2 * width or y_max > 2 * height:
        raise ValueError("its imageGeometry lies far outside the tile")
    if shapely.get_dimensions(geometry) < _POLYGONAL:
        return
    within = x_min >= 0 and y_min >= 0 and x_max <= width and y_max <= height
    if within and geometry.area > 0:
        return
    # made valid first: the signed areas of a bow-tie's halves may cancel out
    valid = shapely.make_valid(geometry)
    if not shapely.intersection(valid, shapely.box(0, 0, width, height)).area > 0:
        raise ValueError("its imageGeometry has no area in the tile")


def _box(properties: Mapping[str, Any], geometry: shapely.Geometry | None) -> list[float]:
    given = _first_given(properties, _BOX)
    if given is None:
        if geometry is None:
            raise ValueError("it has neither imageBBox nor imageGeometry")
        given = geometry.bounds
    if isinstance(given, str):
        raise ValueError(f"its imageBBox is not x_min, y_min, x_max, y_max: {given!r:.80}")  # noqa: TRY004
    x_min, y_min, x_max, y_max = map(float, given)
    if not all(map(isfinite, (x_min, y_min, x_max, y_max))) or x_min > x_max or y_min > y_max:
        raise ValueError(f"its imageBBox is not x_min, y_min, x_max, y_max: {given}")
    if geometry is None and (x_min < x_max) != (y_min < y_max):
        raise ValueError(f"its imageBBox has no area and is not a point: {given}")
    return [x_min, y_min, x_max, y_max]


def _clip(box: list[float], window: Window) -> list[float]:
    """A box clipped to its tile, in pixels of the full image: `clip_boxes` for a single one."""
    x_min, y_min, x_max, y_max = box
    x = _clip_axis(x_min, x_max, window.width, window.col_off)
    y = _clip_axis(y_min, y_max, window.height, window.row_off)
    if x is None or y is None:
        raise ValueError(f"its imageBBox {box} lies outside the tile")
    return [x[0], y[0], x[1], y[1]]


def _clip_axis(low: float, high: float, size: int, offset: int) -> tuple[float, float] | None:
    """Both ends along one axis in pixels of the full image; None if they are outside the tile."""
    first, last = (min(max(end, 0.0), float(size)) + offset for end in (low, high))
    beside = low == high and -SLACK <= low <= size + SLACK
    return (first, last) if beside or first < last else None


def _is_outline(name: str, value: object) -> bool:
    """Whether a property is `detection`, in which OSML used to store geometries."""
    return name == "detection" and isinstance(value, Mapping) and "pixelCoordinates" in value


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
    """Properties as JSON.

    Raises:
        ValueError: They contain NaN or half a surrogate pair, which cannot be published.
    """
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
