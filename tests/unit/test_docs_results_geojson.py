"""docs/results.md: what the section of GeoJSON says to run, runs, and its properties are there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tasks.publish.feature_metadata import RESERVED
from tests.pages import blocks, read, rows
from tests.publications import detections, published

SECTION = re.split(r"^## ", read("results").split("\n## GeoJSON\n", 1)[1], flags=re.MULTILINE)[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    output = {"type": "File", "path": str(tmp_path), "formats": ["geojson", "geojsonl"]}
    for uri in published(output, 3).values():
        path = Path(uri)
        path.rename(path.with_name(path.name.replace("x.tif", "scene.tif")))
    return tmp_path


def test_python(folder: Path) -> None:
    text = (folder / "scene.tif.geojson").read_text().replace('"score":0.5', '"score":0.75', 1)
    (folder / "scene.tif.geojson").write_text(text)
    names: dict[str, Any] = {}
    for code in blocks(SECTION, "python"):
        exec(code, names)
    assert names["ships"]["score"].tolist() == [0.75]
    assert names["number"] == len(detections(3))


@pytest.mark.skipif(shutil.which("ogr2ogr") is None, reason="needs gdal-bin")
def test_commands(folder: Path) -> None:
    text = (folder / "scene.tif.geojson").read_text().replace('"score":0.5', '"score":0.75')
    (folder / "scene.tif.geojson").write_text(text)
    for commands in blocks(SECTION, "sh"):
        subprocess.run(["bash", "-ec", commands], check=True, capture_output=True)
    assert (folder / "sure.shp").is_file()


def test_the_table_names_all_properties_that_swath_fills(folder: Path) -> None:
    named = {
        name for cells in rows(SECTION, "property") for name in re.findall(r"`(\w+)`", cells[0])
    }
    assert named == RESERVED
    line = (folder / "scene.tif.geojsonl").read_text().splitlines()[0]
    assert named - {"acquired"} == json.loads(line)["properties"].keys()
