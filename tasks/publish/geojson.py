"""GeoJSON (RFC 7946) in OSML's feature schema, one line for each feature."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray

from tasks.publish.feature_batches import FeatureBatch, WriteBatch
from tasks.publish.feature_metadata import FeatureMetadata
from tasks.publish.features import Features
from tasks.publish.image_results import ImageResults
from tasks.results.detections import EMBEDDING, boxes

_DECIMALS = (7, 10)  # of a degree: 11 mm, and 11 µm

OPENING = b'{"type":"FeatureCollection","features":['
CLOSING = b"]}"


@contextmanager
def geojson_file(path: Path, results: ImageResults) -> Iterator[WriteBatch]:
    """Write features as one FeatureCollection; the same features give the same bytes.

    The foreign member `swath` (RFC 7946 §6.1), the first one, has the file's provenance. The
    collection's `bbox` is its last member, since it is known only when all features are
    written. It is left out if a feature crosses the antimeridian or no feature is geolocated.

    Args:
        path: File to write; its folder exists.
        results: The results that the features are of.

    Yields:
        A function that appends a batch. The file is complete when the context is left.
    """
    metadata = results.metadata
    extent = _Extent()
    with path.open("wb") as sink:
        separator = b"\n"

        def write(batch: FeatureBatch) -> None:
            nonlocal separator
            rounded = _rounded(batch.features)
            for line in _lines(batch, rounded, metadata):
                sink.write(separator + line)
                separator = b",\n"
            extent.add(rounded.bboxes)

        sink.write(b'{"swath":' + metadata.provenance.json_bytes + b"," + OPENING[1:])
        yield write
        sink.write(b"\n" + CLOSING.replace(b"}", extent.member + b"}\n"))


class _Extent:
    """The bounding box of a collection, from those of its features."""

    def __init__(self) -> None:
        self._low, self._high = np.full(2, np.inf), np.full(2, -np.inf)
        self._crossing = False

    def add(self, bboxes: NDArray[np.float64]) -> None:
        """Extend by boxes (n, 4) west, south, east, north; NaN if a feature is not geolocated."""
        self._crossing |= bool((bboxes[:, 0] > bboxes[:, 2]).any())
        self._low = np.fmin(self._low, np.fmin.reduce(bboxes[:, :2]))
        self._high = np.fmax(self._high, np.fmax.reduce(bboxes[:, 2:]))

    @property
    def member(self) -> bytes:
        """The `bbox` member with its comma, or nothing."""
        if self._crossing or np.isinf(self._low).any():
            return b""
        return b',"bbox":' + orjson.dumps([*self._low.tolist(), *self._high.tolist()])


def lines(batch: FeatureBatch, metadata: FeatureMetadata) -> Iterator[bytes]:
    """Each feature as a GeoJSON object, in UTF-8 and without a line break.

    Longitudes and latitudes have 7 decimals. A feature whose geometry that would make invalid, such
    as a small outline in pixels of a centimetre, has 10 decimals, or all digits if 10 do not keep
    it valid either. Pixels are exact. A feature that is not geolocated has a null `geometry`, and
    no `bbox`, `center_longitude` and `center_latitude`.
    """
    return _lines(batch, _rounded(batch.features), metadata)


class _Rounded(NamedTuple):
    """The coordinates of features as they are written; attributes as in `Features`."""

    geometry: NDArray[np.object_]
    bboxes: NDArray[np.float64]
    centers: NDArray[np.float64]


def _lines(batch: FeatureBatch, rounded: _Rounded, metadata: FeatureMetadata) -> Iterator[bytes]:
    shared: dict[str, Any] = {
        "inferenceMetadata": {
            "jobId": metadata.provenance.job,
            "inferenceDT": metadata.provenance.time,
        },
        "sourceMetadata": list(metadata.source_metadata),
    }
    if metadata.acquired is not None:
        shared["acquired"] = metadata.acquired
    shared = {
        name: orjson.Fragment(orjson.dumps(value, option=orjson.OPT_UTC_Z))
        for name, value in shared.items()
    }
    features, vectors = batch.features, batch.embeddings
    rows = zip(
        repeat(None, len(features)) if vectors is None else map(_fragment, vectors),
        batch.ids,
        batch.feature_classes,
        batch.properties,
        shapely.to_geojson(rounded.geometry),
        zip(*rounded.bboxes.T.tolist(), strict=True),
        zip(*rounded.centers.T.tolist(), strict=True),
        shapely.to_geojson(features.image_geometry),
        zip(*boxes(features.table).T.tolist(), strict=True),
        zip(*(features.table[name].to_pylist() for name in ("class_name", "score")), strict=True),
        strict=True,
    )
    for vector, identity, classes, others, outline, bbox, center, image_geometry, box, best in rows:
        located = outline is not None
        properties = {
            "class": best[0],
            "score": best[1],
            "imageGeometry": orjson.Fragment(image_geometry),
            "imageBBox": box,
            "featureClasses": orjson.Fragment(classes),
            **({} if vector is None else {EMBEDDING: vector}),
            **({"center_longitude": center[0], "center_latitude": center[1]} if located else {}),
            **shared,
        }
        feature = {
            "type": "Feature",
            "id": identity,
            **({"bbox": bbox} if located else {}),
            "geometry": orjson.Fragment(outline) if located else None,
            "properties": properties,
        }
        yield _joined(orjson.dumps(feature), others)


def _fragment(vector: NDArray[np.float32]) -> orjson.Fragment:
    """A vector as JSON, in the fewest digits that tell each float32 from the others."""
    return orjson.Fragment(orjson.dumps(vector, option=orjson.OPT_SERIALIZE_NUMPY))


def _joined(feature: bytes, others: bytes) -> bytes:
    """A feature with further members in its properties, which are its last member."""
    return feature if others == b"{}" else feature[:-2] + b"," + others[1:] + b"}"


def _rounded(features: Features) -> _Rounded:
    """Each feature with the first of `_DECIMALS` that keep its geometry valid, or unrounded."""
    geometry, bboxes = features.geometry.copy(), features.bboxes.copy()
    centers = features.centers.copy()
    rows = np.flatnonzero(~shapely.is_missing(geometry))
    for decimals in _DECIMALS:
        rounded = shapely.transform(features.geometry[rows], partial(_round, decimals=decimals))
        valid = shapely.is_valid(rounded)
        done, rows = rows[valid], rows[~valid]
        geometry[done] = shapely.orient_polygons(rounded[valid], exterior_cw=False)
        bboxes[done] = _round(features.bboxes[done], decimals)
        centers[done] = _round(features.centers[done], decimals)
    return _Rounded(geometry, bboxes, centers)


def _round(degrees: NDArray[np.float64], decimals: int) -> NDArray[np.float64]:
    return np.round(degrees, decimals) + 0.0  # no negative zero
