"""The page on Python is correct: its examples run, its tables match the code."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import geopandas
import matplotlib as mpl
import pytest

import swath
from tests.job_scene import paint
from tests.pages import blocks, read, rows

PAGE = read("python")


@pytest.mark.filterwarnings("ignore:.*is PARTIAL")
def test_the_examples_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mpl.use("agg")
    monkeypatch.chdir(tmp_path)
    scene = paint(tmp_path / "scene.tif")
    (tmp_path / "june").mkdir()
    shutil.copy(scene, tmp_path / "june" / "one.tif")
    shutil.copy(scene, tmp_path / "june" / "two.tif")
    names: dict[str, Any] = {}
    for block in blocks(PAGE, "python"):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert len(geopandas.read_file("features.gpkg")) == 24
    assert Path("features.png").is_file()
    assert Path("results/scene.tif.geojson").is_file()
    assert {path.name for path in Path("june").glob("*.parquet")} >= {"two.tif.parquet"}
    assert [result.summary.features for result in names["results"]] == [24, 24]
    assert len(names["result"].features) > 10
    assert names["largest"].geometry.area > 30
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("24 features; 100 % of the area covered")
    assert printed[-1].startswith("overlap: 600 is not below tile_size 512")


def test_the_other_examples_are_python() -> None:
    found = blocks(PAGE, "py")
    assert len(found) == 2
    for block in found:
        compile(block, "docs/python.md", "exec")


def test_the_arguments_and_attributes_of_the_tables_exist() -> None:
    for _, example in rows(PAGE, "model"):
        compile(example.strip("`"), "docs/python.md", "eval")
    attributes = " ".join(row[0] for row in rows(PAGE, "attribute"))
    names = re.findall(r"`result\.(\w+)", attributes)
    assert len(names) == 10
    assert all(name == "summary" or hasattr(swath.Result, name) for name in names)
