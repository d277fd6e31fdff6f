"""GeoJSON (RFC 7946) and GeoJSONSeq in OSML's feature schema, one line for each feature."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from tasks.publish.feature_batches import FeatureBatch, WriteBatch
from tasks.publish.feature_metadata import FeatureMetadata
from tasks.publish.geometry_text import geojson
from tasks.publish.image_results import ImageResults
from tasks.publish.json_rows import json_rows
from tasks.publish.rounding import Rounded, decimals_for, rounded
from tasks.results.detections import EMBEDDING, boxes

OPENING = b'{"type":"FeatureCollection","features":['
CLOSING = b"]}"

_PIXELS = (
    'ENGCRS["Pixels of the image",EDATUM["Upper left corner of the image"],CS[Cartesian,2],'
    'AXIS["column (x)",columnPositive,ORDER[1],LENGTHUNIT["pixel",1]],'
    'AXIS["row (y)",rowPositive,ORDER[2],LENGTHUNIT["pixel",1]]]'
)
_CRS = b'"crs":%b,' % orjson.dumps({"type": "name", "properties": {"name": _PIXELS}})


@contextmanager
def geojson_file(path: Path, results: ImageResults) -> Iterator[WriteBatch]:
    """Write features as one FeatureCollection; the same features give the same bytes.

    The foreign member `swath` (RFC 7946 §6.1), the first one, has the file's provenance. The
    collection's `bbox` is its last member, since it is known only when all features are
    written. It is left out if a feature crosses the antimeridian or no feature is geolocated.

    Of an image without a georeference the coordinates are pixels, y downwards. The member `crs` of
    the GeoJSON of 2008 says so: GDAL and QGIS would take them for longitude and latitude.

    Args:
        path: File to write; its folder exists.
        results: The results that the features are of.

    Yields:
        A function that appends a batch. The file is complete when the context is left.
    """
    metadata = results.metadata
    extent = _Extent()
    with path.open("wb") as sink:
        empty = True

        def write(batch: FeatureBatch) -> None:
            nonlocal empty
            placed = _placed(batch, results)
            pieces = _pieces(batch, placed, metadata, before=b",\n")
            text = b"".join(chain.from_iterable(pieces))
            sink.write(text[1:] if empty else text)  # no comma before the first one
            empty = False
            extent.add(placed.bboxes)

        crs = _CRS if results.georeference is None else b""
        sink.write(b'{"swath":' + metadata.provenance.json_bytes + b"," + crs + OPENING[1:])
        yield write
        sink.write(b"\n" + CLOSING.replace(b"}", extent.member + b"}\n"))


@contextmanager
def geojsonl_file(path: Path, results: ImageResults) -> Iterator[WriteBatch]:
    """Write features as GeoJSONSeq (RFC 8142 without record separators), a feature a line.

    Other than a collection it can be read line by line, cut and joined. Arguments and coordinates
    are those of `geojson_file`.
    """
    with path.open("wb") as sink:

        def write(batch: FeatureBatch) -> None:
            pieces = _pieces(batch, _placed(batch, results), results.metadata, after=b"\n")
            sink.write(b"".join(chain.from_iterable(pieces)))

        yield write


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


def lines(batch: FeatureBatch, metadata: FeatureMetadata) -> list[bytes]:
    """Each feature as a GeoJSON object, in UTF-8 and without a line break.

    Longitudes and latitudes have 7 decimals, or as many more as `tasks.publish.rounding` says.
    Pixels are exact. A feature that is not geolocated has a null `geometry`, and no `bbox`,
    `center_longitude` and `center_latitude`.
    """
    placed = rounded(batch.features, decimals_for(metadata.pixel_metres))
    return [b"".join(pieces) for pieces in _pieces(batch, placed, metadata)]


def _placed(batch: FeatureBatch, results: ImageResults) -> Rounded:
    """Where a file has the features: on the Earth, or in pixels if the image has no position."""
    features = batch.features
    if results.georeference is not None:
        return rounded(features, decimals_for(results.metadata.pixel_metres))
    return Rounded(geojson(features.image), features.image.bounds, features.centers)


def _pieces(
    batch: FeatureBatch,
    placed: Rounded,
    metadata: FeatureMetadata,
    before: bytes = b"",
    after: bytes = b"",
) -> Iterator[tuple[bytes, ...]]:
    """The text of each feature in pieces that need only be joined.

    Args:
        batch: The features.
        placed: Where they are.
        metadata: What they have in common.
        before: Text before each feature.
        after: Text after each feature.
    """
    table, count = batch.features.table, len(batch.features)
    names = table["class_name"].to_pylist()
    names_as_json = {name: orjson.dumps(name) for name in set(names)}
    places, centers = _places(placed)
    return zip(
        repeat(before + b'{"type":"Feature","id":"', count),
        [identity.encode() for identity in batch.ids],
        repeat(b'",', count),
        places,
        repeat(b'"properties":{"class":', count),
        [names_as_json[name] for name in names],
        repeat(b',"score":', count),
        json_rows(table["score"].to_numpy()),
        repeat(b',"imageGeometry":', count),
        geojson(batch.features.image),
        repeat(b',"imageBBox":[', count),
        json_rows(boxes(table)),
        repeat(b'],"featureClasses":', count),
        batch.feature_classes,
        _embeddings(batch),
        centers,
        repeat(_shared(metadata), count),
        [b"" if own == b"{}" else b"," + own[1:-1] for own in batch.properties],
        repeat(b"}}" + after, count),
        strict=True,
    )


def _places(placed: Rounded) -> tuple[list[bytes], list[bytes]]:
    """The members of each feature that place it, and those of its properties."""
    members = [
        b'"geometry":null,' if text is None else b'"bbox":[%b],"geometry":%b,' % (bbox, text)
        for text, bbox in zip(placed.geometry, json_rows(placed.bboxes), strict=True)
    ]
    properties = [
        b"" if x == b"null" else b',"center_longitude":%b,"center_latitude":%b' % (x, y)
        for x, y in zip(*map(json_rows, placed.centers.T), strict=True)
    ]
    return members, properties


def _embeddings(batch: FeatureBatch) -> list[bytes]:
    """The property of each feature, in the fewest digits that tell each float32 from the others."""
    if batch.embeddings is None:
        return [b""] * len(batch.features)
    name = orjson.dumps(EMBEDDING)
    return [b",%b:[%b]" % (name, vector) for vector in json_rows(batch.embeddings)]


def _shared(metadata: FeatureMetadata) -> bytes:
    """The properties that all features have in common, each after a comma."""
    shared: dict[str, Any] = {
        "inferenceMetadata": {
            "jobId": metadata.provenance.job,
            "inferenceDT": metadata.provenance.time,
        },
        "sourceMetadata": list(metadata.source_metadata),
    }
    if metadata.acquired is not None:
        shared["acquired"] = metadata.acquired
    return b"," + orjson.dumps(shared, option=orjson.OPT_UTC_Z)[1:-1]
