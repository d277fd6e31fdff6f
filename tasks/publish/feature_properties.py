"""The classes and the other properties of features, as JSON and as columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from tasks.publish.feature_metadata import RESERVED, FeatureMetadata
from tasks.publish.json_rows import json_rows
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
    quoted_names = {name: quoted(name) for name in set(names)}
    names_as_json = {name: orjson.dumps(name) for name in quoted_names}
    requested = orjson.dumps(metadata.requested)
    class_names: list[str] = []
    class_scores: list[float] = []
    counts: list[int] = []
    feature_classes: list[bytes] = []
    properties: list[bytes] = []
    embeddings: list[Any] = []
    has_embedding = metadata.embedding_size is not None
    rows = zip(names, scores, json_rows(table["score"].to_numpy()), texts, strict=True)
    for name, score, score_as_json, text in rows:
        # the usual case, that needs no parsing
        if text == class_properties(quoted_names[name], score) and not has_embedding:
            class_names.append(name)
            class_scores.append(score)
            counts.append(1)
            feature_classes.append(
                b'[{"iri":%b,"score":%b}]' % (names_as_json[name], score_as_json)
            )
            properties.append(requested)
            continue
        given = _parse(text)
        classes = given.get("featureClasses") or [{"iri": name, "score": score}]
        own = {key: value for key, value in given.items() if key not in RESERVED}
        own |= metadata.requested
        if has_embedding:
            embeddings.append(own.pop(EMBEDDING))
        class_names += [each["iri"] for each in classes]
        class_scores += [each["score"] for each in classes]
        counts.append(len(classes))
        feature_classes.append(orjson.dumps(classes))
        properties.append(orjson.dumps(own))
    return FeatureProperties(
        _class_column(class_names, class_scores, counts),
        feature_classes,
        properties,
        np.array(embeddings, np.float32) if embeddings else None,
    )


def _class_column(names: list[str], scores: list[float], counts: list[int]) -> pa.ListArray:
    """An Arrow column with a list of classes in each row, which has the next `counts` of them."""
    columns = [pa.array(names, pa.string()), pa.array(scores, pa.float64())]
    pairs = pa.StructArray.from_arrays(columns, ["iri", "score"])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pairs)


def _parse(text: str) -> Mapping[str, Any]:
    """A model's properties as values that JSON can hold."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:  # Python's json writes NaN and lone surrogates, against RFC 8259
        lenient = json.loads(text, parse_constant=_finite, parse_float=_finite)
        value = orjson.loads(json.dumps(lenient, ensure_ascii=False).encode(errors="replace"))
    return value if isinstance(value, dict) else {}


def _finite(text: str) -> float | None:
    value = float(text)
    return value if isfinite(value) else None
