"""GeoJSON (RFC 7946) in OSML's feature schema, one feature a line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray

from tasks.publish.batch import Batch
from tasks.publish.provenance import Provenance
from tasks.results.detections import boxes

DECIMALS = 7  # of a degree: 11 mm

OPENING = b'{"type":"FeatureCollection","features":['
CLOSING = b"]}"


@contextmanager
def geojson_file(path: Path, provenance: Provenance) -> Iterator[Callable[[Batch], None]]:
    """Write features as one FeatureCollection, the same bytes whenever the features are the same.

    Its `bbox` stands last, for all features have a part in it. There is none where a feature
    crosses the antimeridian, or no feature has a place.

    Args:
        path: File to write; its folder exists.
        provenance: Where the features come from.

    Yields:
        What writes a batch behind those before it. The file is whole when the context is left.
    """
    extent = _Extent()
    with path.open("wb") as sink:
        separator = b"\n"

        def write(batch: Batch) -> None:
            nonlocal separator
            for line in lines(batch, provenance):
                sink.write(separator + line)
                separator = b",\n"
            extent.add(batch.features.bboxes)

        sink.write(OPENING)
        yield write
        sink.write(b"\n" + CLOSING.replace(b"}", extent.member + b"}\n"))


class _Extent:
    """The bbox of a collection, from those of its features."""

    def __init__(self) -> None:
        self._low, self._high = np.full(2, np.inf), np.full(2, -np.inf)
        self._crosses = False

    def add(self, bboxes: NDArray[np.float64]) -> None:
        """Take in (n, 4) west, south, east, north; NaN where a feature has no place."""
        self._crosses |= bool((bboxes[:, 0] > bboxes[:, 2]).any())
        self._low = np.fmin(self._low, np.fmin.reduce(bboxes[:, :2]))
        self._high = np.fmax(self._high, np.fmax.reduce(bboxes[:, 2:]))

    @property
    def member(self) -> bytes:
        """The collection's last member, or nothing."""
        if self._crosses or np.isinf(self._low).any():
            return b""
        return b',"bbox":' + orjson.dumps(_round(np.append(self._low, self._high)).tolist())


def lines(batch: Batch, provenance: Provenance) -> Iterator[bytes]:
    """Each feature as a GeoJSON object, in UTF-8 and without a line break.

    Longitudes and latitudes have 7 decimals; pixels are exact. Without a place, `geometry` is null
    and `bbox`, `center_longitude` and `center_latitude` are absent.
    """
    shared: dict[str, Any] = {
        "inferenceMetadata": {
            "jobId": provenance.job_id,
            "inferenceDT": provenance.inference_time,
        },
        "sourceMetadata": list(provenance.source_metadata),
    }
    shared = {name: orjson.Fragment(orjson.dumps(value)) for name, value in shared.items()}
    features = batch.features
    rows = zip(
        batch.ids,
        batch.feature_classes,
        batch.properties,
        shapely.to_geojson(shapely.transform(features.geometry, _round)),
        zip(*_round(features.bboxes).T.tolist(), strict=True),
        zip(*_round(features.centers).T.tolist(), strict=True),
        shapely.to_geojson(features.image_geometry),
        zip(*boxes(features.table).T.tolist(), strict=True),
        strict=True,
    )
    for identity, classes, others, geometry, bbox, center, image_geometry, box in rows:
        placed = geometry is not None
        properties = {
            "imageGeometry": orjson.Fragment(image_geometry),
            "imageBBox": box,
            "featureClasses": orjson.Fragment(classes),
            **({"center_longitude": center[0], "center_latitude": center[1]} if placed else {}),
            **shared,
        }
        feature = {
            "type": "Feature",
            "id": identity,
            **({"bbox": bbox} if placed else {}),
            "geometry": orjson.Fragment(geometry) if placed else None,
            "properties": properties,
        }
        yield _joined(orjson.dumps(feature), others)


def _joined(feature: bytes, others: bytes) -> bytes:
    """A feature whose last member, its properties, has others' members too."""
    return feature if others == b"{}" else feature[:-2] + b"," + others[1:] + b"}"


def _round(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.round(degrees, DECIMALS) + 0.0  # no negative zero
