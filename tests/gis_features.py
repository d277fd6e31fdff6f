"""Features that are hard to write: odd names, large numbers, deep values, parts, points, lines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import shapely

from tasks.imagery import Georeference
from tasks.publish import FeatureMetadata, ImageResults
from tasks.publish.formats import FORMATS
from tasks.results.detections import SCHEMA
from tests.provenance import provenance
from tests.publications import DEGREES, results

SOURCE = [{"sourceDT": "2026-01-01T00:00:00Z"}]
LARGE = 2**64 + 1
DEEP = {"a": [{"b": {"c": [1.5, None, "Ω"]}}]}
NAMES = ["ship", "a \"b\" <c> & 'd'", "barge; DROP TABLE features", "Ω 船 🚢", "con", "x\x01y"]


def row(number: int, **fields: Any) -> dict[str, Any]:
    """A detection with a box of 10 pixels."""
    x, y = 12.0 * (number % 15), 12.0 * (number // 15)
    own = {
        "tile": number, "ordinal": 0, "x_min": x, "y_min": y, "x_max": x + 10, "y_max": y + 10,
        "score": 0.5, "class_name": "ship", "geometry": None, "properties": "{}",
    }  # fmt: skip
    return own | fields


def outline(geometry: shapely.Geometry) -> dict[str, Any]:
    """The fields of a detection with a geometry in pixels."""
    names = ("x_min", "y_min", "x_max", "y_max")
    return dict(zip(names, geometry.bounds, strict=True)) | {"geometry": shapely.to_wkb(geometry)}


def odd() -> list[dict[str, Any]]:
    """A detection for each of `NAMES`."""
    own = [{}, {"size": LARGE}, {"deep": DEEP}, {"text": 'a "b"\n\0'}, {"fid": 1, "id": 2}, {}]
    return [
        row(number, class_name=name, score=(number + 1) / 7, properties=json.dumps(properties))
        for number, (name, properties) in enumerate(zip(NAMES, own, strict=True))
    ]


def results_of(
    rows: Iterable[dict[str, Any]],
    georeference: Georeference | None = DEGREES,
    **metadata: Any,
) -> ImageResults:
    """Results with some detections."""
    table = pa.Table.from_pylist(list(rows), schema=SCHEMA)
    own = FeatureMetadata(provenance(), SOURCE, **metadata)
    return replace(
        results(0), read_detections=lambda: [table], georeference=georeference, metadata=own
    )


def write(path: Path, name: str, of: ImageResults) -> Path:
    """Write a file in a format."""
    with FORMATS[name].open_writer(path, of) as append:
        for batch in of.batches():
            append(batch)
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(path.name)] == [
        path.name
    ]
    return path
