"""What a Python function answers about a batch of tiles, in the forms that endpoints answer in.

Of each tile it may return, in pixels of the tile, corner-origin:

- an array of boxes: (n, 4) `x_min, y_min, x_max, y_max`; (n, 5) with the score; (n, 6) with the
  class number too, as Ultralytics' `boxes.data`;
- a dict of arrays: `boxes`, and where known `scores` and `classes` (or `labels`, as torchvision
  calls them), which are numbers or names;
- geometries of shapely: a list, or as `polygons` in a dict in place of `boxes`;
- a GeoJSON FeatureCollection, as a dict or as text (docs/models.md).

If the request says what its raster holds, it returns an array (bands, height, width) or (height,
width) for each tile in place of these; if it says what the answer about a whole tile holds, one
array of numbers (numbers,) for each tile.

Arrays may be of NumPy, lists, or tensors of PyTorch on any device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import shapely
import shapely.geometry
from numpy.typing import NDArray

from tasks.errors import AnswerError
from tasks.inference.endpoint import Boxes, JsonText, Pixels, Vector
from tasks.results import exact_json

_KEYS = {"boxes", "polygons", "scores", "classes", "labels"}
_ONLY_CLASS = "object"  # of a model that tells no class
_REMEDY = (
    "return a list with one answer for each tile: an array of boxes (n, 4), (n, 5) or (n, 6), a "
    "dict of boxes or polygons with scores and classes, a list of shapely geometries, or a GeoJSON "
    "FeatureCollection; for an array of pixels, say what it holds (raster of swath.run)"
)
_RASTER_REMEDY = (
    "return one array (tiles, bands, height, width), or a list with an array (bands, height, "
    "width) or (height, width) for each tile, or leave raster out"
)

_VECTOR_REMEDY = (
    "return one array (tiles, numbers), or a list with one array (numbers,) or one GeoJSON "
    "FeatureCollection for each tile"
)


def read_batch(answer: object, tiles: int, names: Mapping[int, str] | None) -> list[object]:
    """The answer of a function as one for each tile: `Boxes`, `JsonText`, or decoded JSON.

    Args:
        answer: What the function returned for a batch.
        tiles: Number of tiles in the batch.
        names: Name of each class number; None if the numbers are the names.

    Raises:
        AnswerError: It has another form; the message says which forms there are.
    """
    return [_read(each, names) for each in _listed(answer, tiles, _REMEDY)]


def read_rasters(answer: object, tiles: int) -> list[object]:
    """The answer of a function that answers with pixels as `Pixels` for each tile.

    They are copies: a function may use an array again.

    Args:
        answer: What the function returned for a batch.
        tiles: Number of tiles in the batch.

    Raises:
        AnswerError: It has another form; the message says which forms there are.
    """
    return [Pixels(_pixels(each)) for each in _listed(answer, tiles, _RASTER_REMEDY)]


def read_vectors(answer: object, tiles: int) -> list[object]:
    """The answer of a function about whole tiles: `Vector`, or JSON, for each tile.

    Args:
        answer: What the function returned for a batch.
        tiles: Number of tiles in the batch.

    Raises:
        AnswerError: It has another form; the message says which forms there are.
    """
    return [_vector(each) for each in _listed(answer, tiles, _VECTOR_REMEDY)]


def _listed(answer: object, tiles: int, remedy: str) -> list[Any]:
    """The answers for the tiles of a batch.

    Raises:
        AnswerError: There are not as many as tiles.
    """
    if isinstance(answer, Mapping | str | bytes) or not isinstance(answer, Iterable):
        kind = type(answer).__name__
        raise AnswerError(f"it returned one {kind} for a batch of {tiles} tiles; {remedy}.")
    answers = list(answer)
    if len(answers) != tiles:
        raise AnswerError(
            f"it returned {len(answers)} answers for a batch of {tiles} tiles; {remedy}."
        )
    return answers


def _vector(answer: Any) -> object:  # noqa: ANN401 - a user's
    if isinstance(answer, Mapping | str | bytes):
        return _read(answer, None)
    return Vector(_array(answer, "the numbers").copy())  # a function may use an array again


def _pixels(answer: object) -> NDArray[Any]:
    """(bands, height, width) a copy of an answer for one tile."""
    try:
        pixels = np.array(_on_cpu(answer))
    except (TypeError, ValueError) as error:
        raise AnswerError(
            f"its answer for a tile is no array ({error}); {_RASTER_REMEDY}."
        ) from error
    if pixels.ndim not in (2, 3) or pixels.dtype.kind not in "biuf":
        kind = type(answer).__name__
        raise AnswerError(
            f"its answer for a tile is of type {kind}, shape {pixels.shape} and data type "
            f"{pixels.dtype}; {_RASTER_REMEDY}."
        )
    return pixels if pixels.ndim == 3 else pixels[np.newaxis]


def _read(answer: Any, names: Mapping[int, str] | None) -> object:  # noqa: ANN401 - a user's
    match answer:
        case str():
            return JsonText("the function", answer.encode())
        case bytes():
            return JsonText("the function", answer)
        case Mapping() if "type" in answer:
            return JsonText("the function", _json(answer))
        case Mapping():
            return _from_dict(answer, names)
        case Iterable() if isinstance(next(iter(answer), None), shapely.Geometry):
            polygons = list(answer)
            return _features(polygons, *_scores_and_classes(len(polygons), None, None, names))
    boxes = _array(answer, "the boxes")
    if not boxes.size:
        boxes = boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 5, 6):
        kind = type(answer).__name__
        raise AnswerError(
            f"its answer for a tile is of type {kind} and shape {boxes.shape}; {_REMEDY}."
        )
    scores = boxes[:, 4] if boxes.shape[1] > 4 else None
    classes = boxes[:, 5] if boxes.shape[1] > 5 else None
    return Boxes(boxes[:, :4], *_scores_and_classes(len(boxes), scores, classes, names))


def _from_dict(answer: Mapping[Any, Any], names: Mapping[int, str] | None) -> object:
    unknown = sorted(map(str, set(answer) - _KEYS))
    if unknown or ("boxes" in answer) == ("polygons" in answer):
        raise AnswerError(
            f"its answer for a tile is a dict with the keys {sorted(map(str, answer))}; give boxes "
            "or polygons, and where known scores, and classes or labels."
        )
    scores, classes = answer.get("scores"), answer.get("classes", answer.get("labels"))
    if "polygons" in answer:
        polygons = list(answer["polygons"])
        return _features(polygons, *_scores_and_classes(len(polygons), scores, classes, names))
    boxes = _array(answer["boxes"], "boxes")
    boxes = boxes if boxes.size else boxes.reshape(0, 4)
    return Boxes(boxes, *_scores_and_classes(len(boxes), scores, classes, names))


def _scores_and_classes(
    count: int, scores: object, classes: object, names: Mapping[int, str] | None
) -> tuple[NDArray[np.float64], NDArray[np.intp], list[str]]:
    """(n,) scores, 1 if none are given; (n,) indices into the names; and the names.

    Raises:
        AnswerError: There are not as many as detections, or a class has no name.
    """
    found = np.ones(count) if scores is None else _array(scores, "scores")
    if classes is None:
        known = np.zeros(count, np.intp), [(names or {}).get(0, _ONLY_CLASS)]
    else:
        known = _named(classes, names)
    for what, given in (("scores", found), ("classes", known[0])):
        if given.shape != (count,):
            raise AnswerError(
                f"its answer for a tile has {count} detections and {what} of shape {given.shape}; "
                f"give one for each, of shape ({count},)."
            )
    return found, *known


def _named(classes: object, names: Mapping[int, str] | None) -> tuple[NDArray[np.intp], list[str]]:
    """(n,) indices into the names of the different classes, and those names."""
    given = np.asarray(_on_cpu(classes))
    different, indices = np.unique(given, return_inverse=True)
    if given.dtype.kind in "UO" and all(isinstance(each, str) for each in different):
        return indices, [str(each) for each in different]
    if not given.size:
        return np.zeros(0, np.intp), []
    try:
        numbers = [int(each) for each in different]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if numbers != different.tolist():
        raise AnswerError(
            f"its answer for a tile has the classes {different.tolist()!r:.100}; give whole "
            "numbers or names."
        )
    missing = [number for number in numbers if names is not None and number not in names]
    if missing:
        raise AnswerError(
            f"its answer for a tile has the class {missing[0]}, which class_names does not name; "
            "add it there."
        )
    return indices, [str(number) if names is None else names[number] for number in numbers]


def _features(
    geometries: Sequence[object],
    scores: NDArray[np.float64],
    classes: NDArray[np.intp],
    names: list[str],
) -> dict[str, Any]:
    """A FeatureCollection; what is no geometry becomes a feature that is rejected and counted."""
    features = [
        {
            "type": "Feature",
            "geometry": None,
            "properties": {
                "imageGeometry": shapely.geometry.mapping(geometry)
                if isinstance(geometry, shapely.Geometry)
                else None,
                "featureClasses": [{"iri": names[number], "score": score}],
            },
        }
        for geometry, score, number in zip(geometries, scores.tolist(), classes, strict=True)
    ]
    return {"type": "FeatureCollection", "features": features}


def _array(value: object, what: str) -> NDArray[np.float64]:
    try:
        return np.asarray(_on_cpu(value), np.float64)
    except (TypeError, ValueError) as error:
        raise AnswerError(f"{what} of its answer for a tile are no numbers ({error}).") from error


def _on_cpu(value: Any) -> Any:  # noqa: ANN401 - any array
    """A tensor of PyTorch without its gradient, in this machine's memory; others unchanged."""
    return value.detach().cpu() if hasattr(value, "detach") else value


def _json(collection: Mapping[Any, Any]) -> bytes:
    """A FeatureCollection as JSON; its numbers may be of NumPy."""
    try:
        return exact_json.dumps(dict(collection), orjson.OPT_SERIALIZE_NUMPY)
    except (TypeError, ValueError) as error:
        raise AnswerError(f"its answer for a tile is no JSON: {error}.") from error
