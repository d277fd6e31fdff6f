"""Debian's GDAL filters the features by class and score, and converts them to other formats."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.publish import FeatureMetadata, publish
from tasks.request import FileOutput
from tests.provenance import provenance
from tests.publications import detections, results

SOURCE = [{"sourceDT": "2026-01-01T00:00:00Z"}]
needs_gdal = pytest.mark.skipif(shutil.which("ogr2ogr") is None, reason="needs gdal-bin")


def published(folder: Path, table: pa.Table, source: list[dict[str, Any]]) -> Path:
    each = replace(
        results(0), read_detections=lambda: [table], metadata=FeatureMetadata(provenance(), source)
    )
    outputs = [FileOutput(type="File", path=str(folder))]
    return Path(publish(outputs, each, "x.tif", roots=[folder]).uris["geojson"])


def ships(classes: list[str], scores: list[float], **properties: Any) -> pa.Table:
    table = detections(len(classes), **properties)
    for name, values in (("class_name", classes), ("score", scores)):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, table.schema.field(name), pa.array(values))
    return table


@needs_gdal
@pytest.mark.parametrize("driver", ["ESRI Shapefile", "GPKG"])
def test_gdal_filters_by_class_and_score_and_converts(tmp_path: Path, driver: str) -> None:
    table = ships(["ship", "ship", "barge"], [0.25, 0.75, 0.9])
    source, target = published(tmp_path, table, SOURCE), tmp_path / "converted"
    where = "class = 'ship' AND score > 0.5"
    command = ["ogr2ogr", "-q", "-f", driver, "-where", where, str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    again = ["ogr2ogr", "-f", "GeoJSON", "/vsistdout/", str(target)]
    read = json.loads(subprocess.run(again, check=True, capture_output=True).stdout)
    (found,) = read["features"]
    assert (found["properties"]["class"], found["properties"]["score"]) == ("ship", 0.75)
    assert found["properties"]["acquired"].startswith("2026")
    assert found["geometry"]["type"] == "Polygon"


def test_a_models_own_properties_of_these_names_give_way(tmp_path: Path) -> None:
    own = {"class": 7, "score": "high", "acquired": None, "heading": 3}
    path = published(tmp_path, ships(["ship"], [0.5], **own), [])
    (feature,) = json.loads(path.read_text())["features"]
    properties = feature["properties"]
    assert (properties["class"], properties["score"], properties["heading"]) == ("ship", 0.5, 3)
    assert "acquired" not in properties  # it is unknown


def test_the_time_of_acquisition_has_an_offset() -> None:
    times = {
        "2026-01-01T00:00:00Z": datetime(2026, 1, 1, tzinfo=UTC),
        "2026-01-01T00:00:00": datetime(2026, 1, 1, tzinfo=UTC),
        "2026-01-01T02:00:00+02:00": datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
        None: None,
    }
    for text, expected in times.items():
        assert FeatureMetadata(provenance(), [{"sourceDT": text}]).acquired == expected
    assert FeatureMetadata(provenance()).acquired is None
