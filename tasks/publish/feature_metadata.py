"""The metadata that all features of an image share, and each feature's id and properties."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from math import isfinite
from typing import Any

import orjson
import pyarrow as pa

from tasks.publish.provenance import Provenance
from tasks.results.detections import EMBEDDING

RESERVED = frozenset(
    {
        "class",
        "score",
        "acquired",
        "imageGeometry",
        "imageBBox",
        "featureClasses",
        "center_longitude",
        "center_latitude",
        "inferenceMetadata",
        "sourceMetadata",
    }
)
"""Names of properties that Swath itself fills."""


@dataclass(frozen=True)
class FeatureMetadata:
    """The metadata that all features of an image share.

    Attributes:
        provenance: The job, the image and the run; its time is the features' time of inference.
        source_metadata: Metadata read from the image, in OSML's form.
        feature_properties: The request's objects, merged into every feature's properties.
        oriented: Whether the detections may be oriented boxes that Swath decoded.
        embedding_size: Number of numbers in each feature's embedding; None if they have none.
        pixel_metres: Size of the image's pixels on the ground, in metres; None if it is unknown.
    """

    provenance: Provenance
    source_metadata: Sequence[Mapping[str, Any]] = ()
    feature_properties: Sequence[Mapping[str, Any]] = ()
    oriented: bool = False
    embedding_size: int | None = None
    pixel_metres: float | None = None

    @cached_property
    def acquired(self) -> datetime | None:
        """Time of acquisition of the image, with its UTC offset; None if it is unknown."""
        for source in self.source_metadata:
            if text := source.get("sourceDT"):
                time = datetime.fromisoformat(text)
                return time if time.tzinfo else time.replace(tzinfo=UTC)
        return None

    def ids_of(self, table: pa.Table) -> list[str]:
        """Ids of detections, 32 hexadecimal digits: the same in every run of the same request."""
        image = sha256(f"{self.provenance.job}\0{self.provenance.image}".encode(errors="replace"))
        ids = []
        for tile, ordinal in zip(*_lists(table, "tile", "ordinal"), strict=True):
            digest = image.copy()
            digest.update(f"\0{tile}\0{ordinal}".encode())
            ids.append(digest.hexdigest()[:32])
        return ids

    def properties_of(self, table: pa.Table) -> Iterator[tuple[list[Any], dict[str, Any]]]:
        """The `featureClasses` of each detection, and its other properties.

        The other properties are the model's, overridden by the request's. Both lose the names that
        Swath fills (`RESERVED`). An embedding stays the model's.
        """
        own_alone = RESERVED if self.embedding_size is None else RESERVED | {EMBEDDING}
        requested = {
            name: value
            for properties in self.feature_properties
            for name, value in properties.items()
            if name not in own_alone
        }
        columns = _lists(table, "properties", "class_name", "score")
        for text, name, score in zip(*columns, strict=True):
            own = _parse(text)
            classes = own.get("featureClasses") or [{"iri": name, "score": score}]
            for reserved in RESERVED:
                own.pop(reserved, None)
            yield classes, own | requested


def _lists(table: pa.Table, *names: str) -> list[list[Any]]:
    return [table[name].to_pylist() for name in names]


def _parse(text: str) -> dict[str, Any]:
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
