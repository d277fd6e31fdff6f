"""GeoJSON (RFC 7946) in OSML's feature schema, one feature a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import shapely
from numpy.typing import NDArray

from tasks.detections import boxes
from tasks.publish.features import Features
from tasks.publish.provenance import Provenance

DECIMALS = 7  # of a degree: 11 mm
_BATCH = 8192  # features whose text is held at once

OPENING = b'{"type":"FeatureCollection","features":['
CLOSING = b"]}"


def write_geojson(path: Path, features: Features, provenance: Provenance) -> None:
    """Write features as one FeatureCollection, the same bytes whenever the features are the same.

    Args:
        path: File to write; its folder exists.
        features: Detections and their places.
        provenance: Where they come from.
    """
    with path.open("wb") as sink:
        sink.write(_opening(features))
        separator = b"\n"
        for line in lines(features, provenance):
            sink.write(separator + line)
            separator = b",\n"
        sink.write(b"\n" + CLOSING + b"\n")


def _opening(features: Features) -> bytes:
    """The head of the collection, with its bbox where no feature crosses the antimeridian."""
    placed = features.bboxes[~np.isnan(features.bboxes).any(axis=1)]
    if not len(placed) or (placed[:, 0] > placed[:, 2]).any():
        return OPENING
    bbox = _round(np.concatenate([placed[:, :2].min(axis=0), placed[:, 2:].max(axis=0)]))
    return OPENING.replace(b'"features"', b'"bbox":' + orjson.dumps(bbox.tolist()) + b',"features"')


def lines(features: Features, provenance: Provenance) -> Iterator[bytes]:
    """Each feature as a GeoJSON object, in UTF-8 and without a line break.

    Longitudes and latitudes have 7 decimals; pixels are exact. Without a place, `geometry` is null
    and `bbox`, `center_longitude` and `center_latitude` are absent.
    """
    shared = {
        "inferenceMetadata": {
            "jobId": provenance.job_id,
            "inferenceDT": provenance.inference_time,
        },
        "sourceMetadata": list(provenance.source_metadata),
    }
    shared = {name: orjson.Fragment(orjson.dumps(value)) for name, value in shared.items()}
    for batch in features.batches(_BATCH):
        yield from _batch_lines(batch, provenance, shared)


def _batch_lines(
    batch: Features, provenance: Provenance, shared: dict[str, Any]
) -> Iterator[bytes]:
    rows = zip(
        provenance.identify(batch.table),
        provenance.describe(batch.table),
        shapely.to_geojson(shapely.transform(batch.geometry, _round)),
        _round(batch.bboxes).tolist(),
        _round(batch.centers).tolist(),
        shapely.to_geojson(batch.image_geometry),
        boxes(batch.table).tolist(),
        strict=True,
    )
    for identity, (classes, others), geometry, bbox, center, image_geometry, box in rows:
        placed = geometry is not None
        properties = {
            "imageGeometry": orjson.Fragment(image_geometry),
            "imageBBox": box,
            "featureClasses": classes,
            **({"center_longitude": center[0], "center_latitude": center[1]} if placed else {}),
            **shared,
            **others,
        }
        yield orjson.dumps(
            {
                "type": "Feature",
                "id": identity,
                **({"bbox": bbox} if placed else {}),
                "geometry": orjson.Fragment(geometry) if placed else None,
                "properties": properties,
            }
        )


def _round(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.round(degrees, DECIMALS) + 0.0  # no negative zero
