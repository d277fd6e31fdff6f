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
from tests.publications import DEGREES, assert_whole, detections, results

SOURCE = [{"sourceDT": "2026-01-01T00:00:00Z"}]
needs_gdal = pytest.mark.skipif(shutil.which("ogr2ogr") is None, reason="needs gdal-bin")


FORMATS = ("geojson", "geojsonl")


def publish_ships(folder: Path, table: pa.Table, **fields: Any) -> dict[str, str]:
    """The URIs of both formats of GeoJSON, and of the ledger."""
    each = replace(results(0), read_detections=lambda: [table], **fields)
    output = FileOutput(type="File", path=str(folder), formats=FORMATS)
    return publish([output], each, "x.tif", roots=[folder]).uris


def published(folder: Path, table: pa.Table, source: list[dict[str, Any]]) -> Path:
    metadata = FeatureMetadata(provenance(), source)
    return Path(publish_ships(folder, table, metadata=metadata)["geojson"])


def read_by_gdal(path: str | Path) -> dict[str, Any]:
    command = ["ogr2ogr", "-f", "GeoJSON", "/vsistdout/", str(path)]
    read = subprocess.run(command, check=True, capture_output=True).stdout
    found: dict[str, Any] = json.loads(read)
    return found


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
    (found,) = read_by_gdal(target)["features"]
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


def test_lines_are_the_features_of_the_collection(tmp_path: Path) -> None:
    done = publish_ships(tmp_path, detections(3))
    collection = json.loads(Path(done["geojson"]).read_text())
    text = Path(done["geojsonl"]).read_text()
    assert text.endswith("}\n")
    assert [json.loads(line) for line in text.splitlines()] == collection["features"]


@needs_gdal
def test_gdal_reads_lines(tmp_path: Path) -> None:
    done = publish_ships(tmp_path, ships(["ship", "barge"], [0.25, 0.75]))
    found = read_by_gdal(done["geojsonl"])["features"]
    assert [each["properties"]["class"] for each in found] == ["ship", "barge"]
    assert [each["geometry"]["type"] for each in found] == ["Polygon"] * 2


@needs_gdal
def test_without_a_georeference_the_files_are_in_pixels_and_named_so(tmp_path: Path) -> None:
    done = publish_ships(tmp_path, detections(2), georeference=None)
    assert done.keys() == {"pixels.geojson", "pixels.geojsonl", "coverage"}
    assert Path(done["pixels.geojson"]).name == "x.tif.pixels.geojson"
    for kind in ("pixels.geojson", "pixels.geojsonl"):
        found = read_by_gdal(done[kind])["features"]
        assert [each["geometry"]["type"] for each in found] == ["Polygon"] * 2
        xs = [x for x, _ in found[1]["geometry"]["coordinates"][0]]
        assert (min(xs), max(xs)) == (1, 11)
    told = subprocess.run(
        ["ogrinfo", "-so", "-al", done["pixels.geojson"]], check=True, capture_output=True
    )
    assert b"Extent: (0.000000, 0.000000) - (11.000000, 10.000000)" in told.stdout
    assert b'ENGCRS["Pixels of the image"' in told.stdout
    assert assert_whole(str(tmp_path), "x.tif")["files"][0]["kind"] == "pixels.geojson"


def test_files_on_the_earth_and_in_pixels_replace_each_other(tmp_path: Path) -> None:
    for georeference in (DEGREES, None, DEGREES):
        done = publish_ships(tmp_path, detections(2), georeference=georeference)
        names = {path.name for path in tmp_path.iterdir()} - {"x.tif.swath.json"}
        assert names == {Path(uri).name for uri in done.values()}
