"""docs/results.md: what the sections of GIS formats say to run, runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pmtiles.reader import MmapSource, Reader

from tasks.publish.measures import MEASURES
from tests.gis_features import results_of, row, write
from tests.pages import blocks, read, rows
from tests.provenance import provenance
from tests.qgis_files import OFFSCREEN, PYTHON, has_qgis

ROWS = [row(0, score=0.9), row(1), row(2, class_name="barge", score=0.7), row(3, score=0.6)]


def section(name: str) -> str:
    return re.split(r"^## ", read("results").split(f"\n## {name}\n", 1)[1], flags=re.MULTILINE)[0]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "scene.tif"


def file(scene: Path, name: str, ending: str) -> Path:
    return write(Path(f"{scene}.{ending}"), name, results_of(ROWS))


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_geopackage_in_geopandas(scene: Path) -> None:
    file(scene, "gpkg", "gpkg")
    ships = run(blocks(section("GeoPackage"), "python")[0])["ships"]
    assert ships["score"].tolist() == [0.9, 0.6]
    listed = {
        name
        for cells in rows(section("GeoPackage"), "column of the layer")
        for name in re.findall(r"`(\w+)`", cells[0])
    }
    assert listed == {*ships.columns, *MEASURES, "embedding"}


@pytest.mark.skipif(not has_qgis(), reason="needs Debian's python3-qgis")
def test_geopackage_in_qgis(scene: Path) -> None:
    file(scene, "gpkg", "gpkg")
    code = (
        "from qgis.core import QgsApplication\napplication = QgsApplication([], False)\n"
        "application.initQgis()\n"
        + blocks(section("GeoPackage"), "python")[1]
        + "\nprint(layer.featureCount(), [each.value() for each in layer.renderer().categories()])"
    )
    environment = OFFSCREEN | {"HOME": str(scene.parent), "XDG_RUNTIME_DIR": str(scene.parent)}
    done = subprocess.run(
        [PYTHON, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.splitlines() == ["4 ['ship', 'barge', '']"]


@pytest.mark.skipif(shutil.which("ogr2ogr") is None, reason="needs gdal-bin")
def test_geopackage_becomes_a_shapefile(scene: Path) -> None:
    file(scene, "gpkg", "gpkg")
    (command,) = blocks(section("GeoPackage"), "sh")
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert (scene.parent / "ships.shp").is_file()


def test_coco_becomes_tiles_to_train_with(scene: Path) -> None:
    Image.fromarray(np.zeros((100, 200), np.uint8)).save(scene)
    results = results_of(ROWS)
    own = provenance(image=f"s3://images/{scene.name}")
    named = replace(results, metadata=replace(results.metadata, provenance=own))
    write(Path(f"{scene}.coco.json"), "coco", named)
    tiles = run(blocks(section("COCO"), "python")[0])["tiles"]
    assert {each["name"] for each in tiles["categories"]} == {"ship", "barge"}
    assert len(tiles["annotations"]) >= 4


def test_csv_in_pandas(scene: Path) -> None:
    file(scene, "csv", "csv")
    ships = run(blocks(section("CSV"), "python")[0])["ships"]
    assert ships["score"].tolist() == [0.9, 0.6]
    listed = [
        name
        for cells in rows(section("CSV"), "column")
        for name in re.findall(r"`(\w+)`", cells[0])
    ]
    assert listed == list(ships.columns)


@pytest.mark.skipif(shutil.which("ogr2ogr") is None, reason="needs gdal-bin")
def test_a_part_of_a_flatgeobuf(scene: Path) -> None:
    file(scene, "flatgeobuf", "fgb")
    here = run(blocks(section("FlatGeobuf"), "python")[0])["here"]
    assert sorted(here["score"]) == [0.5, 0.9]
    (command,) = blocks(section("FlatGeobuf"), "sh")
    subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert len(json.loads((scene.parent / "here.geojson").read_text())["features"]) == 2


def test_a_web_map_of_pmtiles_names_what_they_have(scene: Path) -> None:
    path = file(scene, "pmtiles", "pmtiles")
    overview = run(blocks(section("PMTiles"), "python")[0])["overview"]
    assert set(overview.geom_type) == {"Point"}
    (page,) = blocks(section("PMTiles"), "html")
    with path.open("rb") as opened:
        (layer,) = Reader(MmapSource(opened)).metadata()["vector_layers"]
    assert re.findall(r'"source-layer": "(\w+)"', page) == [layer["id"]]
    assert set(re.findall(r'\["get", "(\w+)"\]', page)) <= set(layer["fields"])
