"""GeoParquet is valid by its standard, and DuckDB, GeoPandas and GDAL read it, of any image."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import geopandas
import geoparquet_validator
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from affine import Affine
from rasterio.crs import CRS
from shapely.affinity import translate

from tasks.grid.cells import Cells
from tasks.grid.tiles import Grid
from tasks.imagery import Georeference
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.publish import FeatureMetadata
from tasks.publish.coverage_file import write_coverage
from tasks.publish.geoparquet import geoparquet_file
from tasks.publish.image_results import ImageResults
from tasks.results import coverage
from tasks.results.coverage import TileRecord, TileState
from tasks.results.coverage_proof import measure
from tasks.results.detections import SCHEMA
from tests.provenance import provenance

SIDE = 1000  # pixels of each image
METADATA = FeatureMetadata(provenance(), [{"sourceDT": "2026-01-01T00:00:00Z"}])


def square(crs: str, x: float, y: float, pixel: float) -> AffineGeoreference:
    """An image whose middle is x, y."""
    corner = x - pixel * SIDE / 2, y + pixel * SIDE / 2
    return AffineGeoreference(Affine(pixel, 0, corner[0], 0, -pixel, corner[1]), crs, (SIDE, SIDE))


@dataclass(frozen=True)
class Case:
    """An image, how many features it has, and what they have in common."""

    georeference: Georeference | None
    count: int = 600
    oriented: bool = False
    embedding_size: int | None = None


CASES = {
    "utm": Case(square("EPSG:32633", 5e5, 5.4e6, 0.5)),
    "many": Case(square("EPSG:32633", 5e5, 5.4e6, 0.5), 6000),
    "antimeridian": Case(square("EPSG:4326", 180, 10, 0.01), 6000),
    "pole": Case(square("EPSG:3413", 0, 0, 30), 6000),
    "pixels": Case(None),
    "empty": Case(square("EPSG:32633", 5e5, 5.4e6, 0.5), 0),
    "empty pixels": Case(None, 0),
    "oriented": Case(square("EPSG:32633", 5e5, 5.4e6, 0.5), oriented=True),
    "embeddings": Case(square("EPSG:32633", 5e5, 5.4e6, 0.5), embedding_size=8),
}


def detections(case: Case) -> pa.Table:
    """Boxes, outlines and lines all over the image, the first one in its middle."""
    random, count = np.random.default_rng(7), case.count
    x, y = random.uniform(0, SIDE - 20, (2, count))
    x[:1], y[:1] = SIDE / 2 - 10, SIDE / 2 - 5
    kinds = [shapely.Point(10, 5).buffer(5), shapely.LineString([(0, 0), (20, 10)])]
    outlines = [
        shapely.to_wkb(translate(kinds[row % 4], *place)) if row % 4 < len(kinds) else None
        for row, place in enumerate(zip(x, y, strict=True))
    ]
    own: dict[str, Any] = {"lengthPixels": 1} if case.oriented else {}
    if case.embedding_size:
        own["embedding"] = [0.5] * case.embedding_size
    columns = {
        "tile": np.arange(count),
        "ordinal": pa.array(np.zeros(count), pa.int32()),
        "x_min": x,
        "y_min": y,
        "x_max": x + 20,
        "y_max": y + 10,
        "score": random.uniform(0, 1, count),
        "class_name": random.choice(["ship", "barge"], count),
        "geometry": pa.array(outlines, pa.binary()),
        "properties": pa.array([json.dumps(own)] * count, pa.string()),
    }
    return pa.table(columns, schema=SCHEMA)


@dataclass(frozen=True)
class Written:
    """The files of a case."""

    case: Case
    features: str
    ledger: str


@pytest.fixture(scope="module", params=CASES)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    case = CASES[request.param]
    folder = tmp_path_factory.mktemp("files")
    grid = Grid(SIDE, SIDE, 500, 0)
    tiles = [grid.tile(row, column) for row in (0, 1) for column in (0, 1)]
    found = coverage.ledger([TileRecord(tile, TileState.INFERRED) for tile in tiles])
    ledger = measure(found, Cells.of(grid, None))
    metadata = replace(METADATA, oriented=case.oriented, embedding_size=case.embedding_size)
    results = ImageResults(lambda: [detections(case)], metadata, ledger, case.georeference)
    features, tiles_file = folder / "scene.tif.parquet", folder / "scene.tif.coverage.parquet"
    with geoparquet_file(features, results) as write:
        for batch in results.batches():
            write(batch)
    write_coverage(tiles_file, ledger, case.georeference, METADATA.provenance)
    return Written(case, str(features), str(tiles_file))


def selected(query: str) -> list[tuple[Any, ...]]:
    return duckdb.execute(query).fetchall()


def test_files_are_valid_by_the_standard(written: Written) -> None:
    for file in (written.features, written.ledger):
        report = geoparquet_validator.check(file)
        assert report["version"] == "1.1.0"
        assert geoparquet_validator.failed(report) == []
        states = {each["id"]: each["status"] for each in report["outcomes"]}
        assert set(states.values()) <= {"pass", "skip"}
        assert all(
            state == "pass" for name, state in states.items() if name.startswith("/conf/covering")
        )
    if written.case.count > 1000:
        assert states["/conf/distribution/geospatial-statistics"] == "pass"


def test_features_are_in_spatial_order_by_the_measure_of_the_standard(written: Written) -> None:
    outcomes = geoparquet_validator.check(written.features)["outcomes"]
    (order,) = (each for each in outcomes if each["id"] == "/conf/distribution/spatial-order")
    assert order["status"] == ("pass" if written.case.count > 1000 else "skip")


def test_duckdb_and_geopandas_read_the_same(written: Written) -> None:
    frame = geopandas.read_parquet(written.features)
    described = selected(f"DESCRIBE SELECT * FROM '{written.features}'")
    types = {name: kind for name, kind, *_ in described}
    assert types.keys() == {*frame.columns, "bbox"}
    assert types["geometry"].startswith("GEOMETRY(")
    assert {types[name] for name in ("score", "area_square_metres")} == {"DOUBLE"}
    assert {types[name] for name in ("inference_dt", "acquired")} == {"TIMESTAMP WITH TIME ZONE"}
    assert types["class"] == "VARCHAR"
    rows = selected(f"SELECT id, class, score, geometry FROM '{written.features}'")
    wkb = shapely.to_wkb(frame.geometry.to_numpy(), byte_order=1)
    assert rows == list(zip(frame["id"], frame["class"], frame["score"], wkb, strict=True))
    tiles = selected(f"SELECT tile, state FROM '{written.ledger}'")
    assert tiles == [(number, "inferred") for number in range(4)]


def test_duckdb_and_geopandas_find_the_same_in_a_box(written: Written) -> None:
    """Every feature that meets the box is found, and none whose own bbox does not."""
    frame = geopandas.read_parquet(written.features)
    if frame.empty:
        return
    bounds = frame.geometry.bounds
    for row in (frame["image_x_min"].idxmin(), 0, frame["image_x_max"].idxmax()):
        west, south, east, north = (float(side) for side in bounds.loc[row])
        box = shapely.box(max(west, east - 1), south, east, north)
        found = set(geopandas.read_parquet(written.features, bbox=box.bounds)["id"])
        columns = (
            f"bbox.xmin <= {box.bounds[2]} AND bbox.xmax >= {box.bounds[0]} AND "
            f"bbox.ymin <= {box.bounds[3]} AND bbox.ymax >= {box.bounds[1]}"
        )
        for condition in (columns, f"geometry && '{box.wkt}'::GEOMETRY"):
            query = f"SELECT id FROM '{written.features}' WHERE {condition}"
            assert {name for (name,) in selected(query)} == found
        meeting = set(frame[frame.intersects(box)]["id"])
        assert frame["id"][row] in meeting <= found


def test_features_over_the_antimeridian_or_a_pole_are_found_on_both_sides(
    written: Written,
) -> None:
    frame = geopandas.read_parquet(written.features)
    wide = frame[frame.geometry.bounds.maxx - frame.geometry.bounds.minx == 360]
    if written.case not in (CASES["antimeridian"], CASES["pole"]):
        assert wide.empty
        return
    assert not wide.empty
    last = pq.ParquetFile(written.features).metadata.num_rows - len(wide)
    assert wide.index.min() == last  # apart, as row groups that have one are read from everywhere
    for west, east in ((-180, -179.99), (179.99, 180)):
        found = geopandas.read_parquet(written.features, bbox=(west, -90, east, 90))
        assert set(wide["id"]) <= set(found["id"])
        query = (
            f"SELECT id FROM '{written.features}' WHERE bbox.xmin < {east} AND bbox.xmax > {west}"
        )
        assert set(wide["id"]) <= {name for (name,) in selected(query)}


def test_an_image_without_a_georeference_has_a_reference_system_that_gdal_reads(
    written: Written,
) -> None:
    geo = json.loads(pq.read_metadata(written.features).metadata[b"geo"])["columns"]["geometry"]
    assert ("crs" in geo) == (written.case.georeference is None)
    if "crs" in geo:
        crs = CRS.from_user_input(json.dumps(geo["crs"]))
        assert not crs.is_geographic
        assert not crs.is_projected
        assert "Pixels of the image" in crs.to_wkt()
