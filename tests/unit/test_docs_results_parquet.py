"""docs/results.md: what the sections of GeoParquet and of the ledger say to run, runs."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import geopandas
import pyarrow.parquet as pq
import pytest

from tasks.grid.cells import Cells
from tasks.grid.tiles import Grid
from tasks.publish.coverage_file import write_coverage
from tasks.publish.geoparquet import geoparquet_file
from tasks.results import coverage
from tasks.results.coverage import TileRecord, TileState
from tasks.results.coverage_proof import measure
from tests.pages import blocks, rows
from tests.provenance import provenance
from tests.unit.test_docs_results_gis import section
from tests.unit.test_publish_formats import UTM, detections, results_with


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the features of an image around 15° E, 48.7° N."""
    monkeypatch.chdir(tmp_path)
    results = results_with(UTM, [detections(5000)])
    with geoparquet_file(tmp_path / "scene.tif.parquet", results) as write:
        for batch in results.batches():
            write(batch)
    return tmp_path


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(code, names)
    return names


def test_geoparquet_in_geopandas() -> None:
    found = run(blocks(section("GeoParquet"), "python")[0])
    assert len(found["features"]) == 5000
    assert 0 < len(found["near"]) < 50


def test_duckdb_finds_what_geopandas_finds(capsys: pytest.CaptureFixture[str]) -> None:
    in_geopandas, in_duckdb, _ = blocks(section("GeoParquet"), "python")
    near: duckdb.DuckDBPyRelation = run(in_duckdb)["near"]
    found = {(name, kind) for name, kind, _ in near.fetchall()}
    wanted = run(in_geopandas)["near"]
    assert found == set(zip(wanted["id"], wanted["class"], strict=True))
    assert "POLYGON" in capsys.readouterr().out


def test_lonboard_draws_the_features(folder: Path) -> None:
    pytest.importorskip("lonboard", reason="lonboard is not installed")
    found = run(blocks(section("GeoParquet"), "python")[2])
    found["map"].to_html(folder / "map.html")
    assert (folder / "map.html").stat().st_size > 100_000


def test_every_column_is_listed(folder: Path) -> None:
    described = {
        name
        for cells in rows(section("GeoParquet"), "column")
        for name in re.findall(r"`(\w+)`", cells[0])
    }
    results = results_with(UTM)
    metadata = replace(results.metadata, oriented=True, embedding_size=3)
    path = folder / "all.parquet"
    with geoparquet_file(path, replace(results, metadata=metadata)):
        pass
    assert described == set(pq.read_schema(path).names)


def test_the_ledger_in_geopandas(folder: Path) -> None:
    grid = Grid(1000, 500, 500, 0)
    records = [
        TileRecord(grid.tile(0, 0), TileState.INFERRED),
        TileRecord(grid.tile(0, 1), TileState.FAILED, "HTTP 500"),
    ]
    ledger = measure(coverage.ledger(records), Cells.of(grid, None))
    write_coverage(folder / "scene.tif.coverage.parquet", ledger, UTM, provenance())
    (code,) = blocks(section("The ledger of tiles"), "python")
    assert len(run(code)["tiles"]) == 2
    assert geopandas.read_file("failed-tiles.geojson")["reason"].tolist() == ["HTTP 500"]
