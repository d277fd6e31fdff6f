"""The classes and the other properties of features, as JSON and as columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from tasks.publish.feature_metadata import RESERVED, FeatureMetadata
from tasks.publish.json_rows import json_rows
from tasks.results import exact_json
from tasks.results.detections import EMBEDDING, class_properties, quoted


class FeatureProperties(NamedTuple):
    """The properties of n features; the attributes of that name in `FeatureBatch`."""

    classes: pa.ListArray
    feature_classes: list[bytes]
    properties: list[bytes]
    embeddings: NDArray[np.float32] | None


def feature_properties(table: pa.Table, metadata: FeatureMetadata) -> FeatureProperties:
    """The `featureClasses` of detections, and their other properties.

    The other properties are the model's, overridden by the request's. Both lose the names that
    Swath fills (`RESERVED`). An embedding stays the model's.

    Args:
        table: Of `detections.SCHEMA`.
        metadata: What all features have in common.
    """
    names, scores, texts = (
        table[name].to_pylist() for name in ("class_name", "score", "properties")
    )
    has_embedding = metadata.embedding_size is not None
    starts, end = _around_score(set(names))
    of_one_class = [
        f"{starts[name]}{score!r}{end}" for name, score in zip(names, scores, strict=True)
    ]
    if texts == of_one_class and not has_embedding:  # the usual case, that needs no parsing
        return _of_one_class(table, exact_json.dumps(metadata.requested))
    class_names: list[str] = []
    class_scores: list[float] = []
    counts: list[int] = []
    feature_classes: list[bytes] = []
    properties: list[bytes] = []
    embeddings: list[Any] = []
    for name, score, text in zip(names, scores, texts, strict=True):
        given = _parse(text)
        classes = given.get("featureClasses") or [{"iri": name, "score": score}]
        own = {key: value for key, value in given.items() if key not in RESERVED}
        own |= metadata.requested
        if has_embedding:
            embeddings.append(own.pop(EMBEDDING))
        class_names += [each["iri"] for each in classes]
        class_scores += [each["score"] for each in classes]
        counts.append(len(classes))
        feature_classes.append(exact_json.dumps(classes))
        properties.append(exact_json.dumps(own))
    columns = pa.array(class_names, pa.string()), pa.array(class_scores, pa.float64())
    return FeatureProperties(
        _class_column(*columns, counts),
        feature_classes,
        properties,
        np.array(embeddings, np.float32) if embeddings else None,
    )


def _around_score(names: Iterable[str]) -> tuple[dict[str, str], str]:
    """What `class_properties` has before the score of each class, and what after it."""
    texts = {name: class_properties(quoted(name), 0.0).rpartition("0.0") for name in names}
    end = next((text[2] for text in texts.values()), "")
    return {name: start for name, (start, _, _) in texts.items()}, end


def _of_one_class(table: pa.Table, requested: bytes) -> FeatureProperties:
    """The properties of features that have a class with its score, and the request's."""
    count = len(table)
    names, scores = (table[name].combine_chunks() for name in ("class_name", "score"))
    classes = names.to_pylist()
    names_as_json = {name: orjson.dumps(name) for name in set(classes)}
    feature_classes = [
        b'[{"iri":%b,"score":%b}]' % (names_as_json[name], score)
        for name, score in zip(classes, json_rows(scores.to_numpy()), strict=True)
    ]
    column = _class_column(names, scores, [1] * count)
    return FeatureProperties(column, feature_classes, [requested] * count, None)


def _class_column(names: pa.Array, scores: pa.Array, counts: list[int]) -> pa.ListArray:
    """An Arrow column with a list of classes in each row, which has the next `counts` of them."""
    pairs = pa.StructArray.from_arrays([names, scores], ["iri", "score"])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pairs)


def _parse(text: str) -> Mapping[str, Any]:
    """A model's properties as values that JSON can hold."""
    try:
        value = exact_json.loads(text)
    except ValueError:  # Python's json writes NaN and lone surrogates, against RFC 8259
        lenient = json.loads(text, parse_constant=_finite, parse_float=_finite)
        value = exact_json.loads(json.dumps(lenient, ensure_ascii=False).encode(errors="replace"))
    return value if isinstance(value, dict) else {}


def _finite(text: str) -> float | None:
    value = float(text)
    return value if isfinite(value) else None
