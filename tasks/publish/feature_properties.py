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

_LEAST_PLAIN = 1e-4  # below, Python's JSON has an exponent of two digits, orjson's one of one


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
    has_embedding = metadata.embedding_size is not None
    if not has_embedding and (found := _of_one_class(table, metadata)):
        return found  # the usual case, that needs no parsing
    names, scores, texts = (
        table[name].to_pylist() for name in ("class_name", "score", "properties")
    )
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


def _of_one_class(table: pa.Table, metadata: FeatureMetadata) -> FeatureProperties | None:
    """The same of detections that have nothing but a class with its score; None if others do."""
    columns = [table[name].combine_chunks() for name in ("class_name", "score", "properties")]
    names, scores = columns[0].to_pylist(), columns[1].to_numpy()
    as_json = json_rows(scores)
    as_given = as_json.copy()
    for row in np.flatnonzero(scores < _LEAST_PLAIN):
        as_given[row] = repr(float(scores[row])).encode()
    starts, end = _around_score(set(names))
    texts = [starts[name] + score + end for name, score in zip(names, as_given, strict=True)]
    if texts != columns[2].view(pa.binary()).to_pylist():
        return None
    begun = {name: b'[{"iri":%b,"score":' % orjson.dumps(name) for name in starts}
    return FeatureProperties(
        _class_column(columns[0], columns[1], [1] * len(table)),
        [begun[name] + score + b"}]" for name, score in zip(names, as_json, strict=True)],
        [exact_json.dumps(metadata.requested)] * len(table),
        None,
    )


def _around_score(names: Iterable[str]) -> tuple[dict[str, bytes], bytes]:
    """What `class_properties` has before the score of each class, and what after it."""
    texts = {
        name: class_properties(quoted(name), 0.0).encode().rpartition(b"0.0") for name in names
    }
    end = next((text[2] for text in texts.values()), b"")
    return {name: start for name, (start, _, _) in texts.items()}, end


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
