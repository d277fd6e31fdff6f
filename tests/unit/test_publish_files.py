"""GeoJSON and GeoParquet are valid by their standards, and say the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyproj
import pytest
import shapely
import shapely.geometry
from affine import Affine

from tasks.errors import PublishError
from tasks.grid.cells import Cells
from tasks.grid.tiles import Grid
from tasks.imagery import Georeference
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.publish import FeatureMetadata, ImageResults, publish
from tasks.request import FileOutput
from tasks.results import coverage
from tasks.results.coverage import TileRecord, TileState
from tasks.results.coverage_proof import measure
from tasks.results.detections import SCHEMA
from tests.provenance import provenance

SOURCE = [{"sourceDT": "2026-01-01T00:00:00Z"}]
METADATA = FeatureMetadata(provenance(), SOURCE, [{"mission": "Ω"}])


Place = Georeference | None
# pixels of 0.01°, from 179° E and 10° N
DEGREES = AffineGeoreference(Affine(0.01, 0, 179, 0, -0.01, 10), "EPSG:4326", (200, 200))


def detections(count: int = 60) -> pa.Table:
    random = np.random.default_rng(7)
    rows = []
    for i in range(count):
        x, y = random.uniform(0, 190, 2).tolist()
        outline = shapely.Point(x + 5, y + 5).buffer(4, quad_segs=2) if i % 2 else None
        if i % 10 == 3:
            x = 1.8 * i  # the last of them over the antimeridian, at 100
            outline = shapely.LineString([(x, y), (x + 10, y + 10)])
        score = float(random.random())
        rows.append(
            {
                "tile": i // 5,
                "ordinal": i % 5,
                "x_min": x,
                "y_min": y,
                "x_max": x + 10,
                "y_max": y + 10,
                "score": score,
                "class_name": "ship",
                "geometry": None if outline is None else shapely.to_wkb(outline),
                "properties": json.dumps(
                    {"featureClasses": [{"iri": "ship", "score": score}], "heading": i / 3}
                ),
            }
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def folder_output(folder: Path) -> FileOutput:
    return FileOutput(type="File", path=str(folder))


def results(table: pa.Table | None, georeference: Place = None) -> ImageResults:
    grid = Grid(200, 100, 100, 0)
    found = [TileRecord(grid.tile(0, column), TileState.FAILED, "HTTP 500") for column in (0, 1)]
    ledger = measure(coverage.ledger(found), Cells.of(grid, None))
    return ImageResults(None if table is None else lambda: [table], METADATA, ledger, georeference)


@pytest.fixture(params=[DEGREES, None], ids=["world", "pixels"])
def georeference(request: pytest.FixtureRequest) -> Georeference | None:
    place: Place = request.param
    return place


def geojson_of(folder: Path, georeference: Place) -> Path:
    return folder / ("x.pixels.geojson" if georeference is None else "x.geojson")


def written(
    folder: Path, table: pa.Table, georeference: Place
) -> tuple[dict[str, Any], geopandas.GeoDataFrame]:
    publish([folder_output(folder)], results(table, georeference), "x", roots=[folder])
    collection = json.loads(geojson_of(folder, georeference).read_text())
    return collection, geopandas.read_parquet(folder / "x.parquet")


def test_a_feature_has_osml_schema(tmp_path: Path) -> None:
    collection, _ = written(tmp_path, detections(1), DEGREES)
    table = detections(1).to_pylist()[0]
    box = [table[name] for name in ("x_min", "y_min", "x_max", "y_max")]
    (feature,) = collection["features"]
    assert list(feature) == ["type", "id", "bbox", "geometry", "properties"]
    assert feature["type"] == "Feature"
    image_geometry = feature["properties"].pop("imageGeometry")
    assert shapely.geometry.shape(image_geometry).equals(shapely.box(*box))
    assert feature["properties"] == {
        "class": "ship",
        "score": table["score"],
        "acquired": "2026-01-01T00:00:00Z",
        "imageBBox": box,
        "featureClasses": [{"iri": "ship", "score": table["score"]}],
        "center_longitude": pytest.approx(-181 + (box[0] + 5) / 100, abs=1e-7),
        "center_latitude": pytest.approx(10 - (box[1] + 5) / 100, abs=1e-7),
        "inferenceMetadata": {"jobId": "job-1", "inferenceDT": "2026-11-22T10:17:48Z"},
        "sourceMetadata": SOURCE,
        "heading": 0.0,
        "mission": "Ω",
    }


def test_geojson_is_by_rfc_7946(tmp_path: Path) -> None:
    collection, _ = written(tmp_path, detections(), DEGREES)
    assert collection["type"] == "FeatureCollection"
    assert "crs" not in collection
    kinds = set()
    for feature in collection["features"]:
        geometry = shapely.geometry.shape(feature["geometry"])
        kinds.add(geometry.geom_type)
        points = shapely.get_coordinates(geometry)
        assert (np.abs(points) <= (180, 90)).all()
        assert (points == np.round(points, 7)).all()
        for part in shapely.get_parts(geometry):
            assert part.geom_type != "Polygon" or part.exterior.is_ccw
        west, south, east, north = feature["bbox"]
        assert south <= north
        assert (west > east) == geometry.geom_type.startswith("Multi")
    assert kinds == {"Polygon", "MultiPolygon", "LineString", "MultiLineString"}


def test_a_line_of_the_file_is_a_feature(tmp_path: Path, georeference: Place) -> None:
    collection, _ = written(tmp_path, detections(), georeference)
    first, *lines, last = geojson_of(tmp_path, georeference).read_text().splitlines()
    around = json.loads(first + last)
    assert around["swath"] == json.loads(METADATA.provenance.json_bytes)
    assert (around["type"], around["features"]) == ("FeatureCollection", [])
    assert [json.loads(line.removesuffix(",")) for line in lines] == collection["features"]


def test_the_same_features_give_the_same_bytes(tmp_path: Path, georeference: Place) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        written(tmp_path / folder, detections(), georeference)
    for name in (geojson_of(tmp_path, georeference).name, "x.parquet"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_both_files_say_the_same(tmp_path: Path, georeference: Place) -> None:
    collection, frame = written(tmp_path, detections(), georeference)
    rows = {row["id"]: row for _, row in frame.iterrows()}
    assert rows.keys() == {feature["id"] for feature in collection["features"]}
    assert len(collection["features"]) == len(frame) == 60
    for feature in collection["features"]:
        row, properties = rows[feature["id"]], feature["properties"]
        own = {name: properties[name] for name in ("heading", "mission")}
        box = [row[f"image_{name}"] for name in ("x_min", "y_min", "x_max", "y_max")]
        assert properties["imageBBox"] == box
        assert properties["featureClasses"] == list(row["feature_classes"])
        assert properties["featureClasses"][0] == {"iri": row["class"], "score": row["score"]}
        assert json.loads(row["properties"]) == own
        assert json.loads(row["source_metadata"]) == properties["sourceMetadata"]
        assert shapely.geometry.shape(properties["imageGeometry"]) == shapely.from_wkb(
            row["image_geometry"]
        )
        metadata = properties["inferenceMetadata"]
        assert metadata["jobId"] == row["job_id"]
        assert metadata["inferenceDT"] == row["inference_dt"].strftime("%Y-%m-%dT%H:%M:%SZ")
        if georeference is None:
            assert feature["geometry"] == properties["imageGeometry"]
            assert row["geometry"].equals(shapely.from_wkb(row["image_geometry"]))
            assert feature["bbox"] == list(row["geometry"].bounds)
            assert properties.keys().isdisjoint({"center_longitude", "center_latitude"})
            continue
        place = shapely.geometry.shape(feature["geometry"])
        assert place.equals_exact(row["geometry"], 1e-7)
        assert properties["center_longitude"] == round(row["center_longitude"], 7)
        assert properties["center_latitude"] == round(row["center_latitude"], 7)


def test_geoparquet_is_read_by_bbox(tmp_path: Path) -> None:
    _, frame = written(tmp_path, detections(), DEGREES)
    assert frame.crs == "OGC:CRS84"
    query = (179.2, 8.5, 179.9, 9.5)
    some = geopandas.read_parquet(tmp_path / "x.parquet", bbox=query)
    expected = frame[frame.geometry.intersects(shapely.box(*query))]
    assert 0 < len(expected) < len(frame)
    assert set(expected["id"]) <= set(some["id"])
    assert len(some) < len(frame)
    beyond = geopandas.read_parquet(tmp_path / "x.parquet", bbox=(-180, 0, -179, 20))
    assert set(beyond["id"]) >= set(frame[frame.geometry.bounds.minx < 0]["id"])
    assert len(beyond) < len(frame)


def test_geoparquet_metadata(tmp_path: Path) -> None:
    written(tmp_path, detections(), DEGREES)
    file = pq.read_metadata(tmp_path / "x.parquet")
    geo = json.loads(file.metadata[b"geo"])
    column = geo["columns"]["geometry"]
    assert (geo["version"], geo["primary_column"]) == ("1.1.0", "geometry")
    assert column["encoding"] == "WKB"
    kinds = ["LineString", "MultiLineString", "MultiPolygon", "Polygon"]
    assert column["geometry_types"] == kinds
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    assert column["bbox"][0] == -180
    assert column["bbox"][2] == 180
    assert file.row_group(0).column(0).compression == "ZSTD"


def test_pixels_alone_are_a_frame_in_the_reference_system_of_the_image(tmp_path: Path) -> None:
    _, frame = written(tmp_path, detections(), None)
    assert frame.crs.is_engineering
    assert [axis.direction for axis in frame.crs.axis_info] == ["columnPositive", "rowPositive"]
    assert {axis.unit_name for axis in frame.crs.axis_info} == {"pixel"}
    assert (frame.geometry.bounds.maxx == frame["image_x_max"])[frame.geom_type == "Polygon"].any()
    some = geopandas.read_parquet(tmp_path / "x.parquet", bbox=(0, 0, 50, 200))
    assert set(some["id"]) == set(frame.cx[0:50, 0:200]["id"])
    with pytest.raises(pyproj.exceptions.ProjError):
        frame.to_crs("EPSG:4326")


def test_no_features_are_valid_files(tmp_path: Path, georeference: Place) -> None:
    collection, frame = written(tmp_path, SCHEMA.empty_table(), georeference)
    assert collection.keys() - {"crs"} == {"swath", "type", "features"}
    assert collection["features"] == []
    assert len(frame) == 0
    assert "geometry" in frame.columns


def test_files_are_published_under_the_roots(tmp_path: Path, georeference: Place) -> None:
    outputs = [folder_output(tmp_path / "a"), folder_output(tmp_path / "b" / "c")]
    done = publish(outputs, results(detections(), georeference), "x.tif", roots=[tmp_path]).uris
    geojson = "geojson" if georeference else "pixels.geojson"
    assert done == {
        geojson: str(tmp_path / "a" / f"x.tif.{geojson}"),
        "parquet": str(tmp_path / "a" / "x.tif.parquet"),
        "coverage": str(tmp_path / "a" / "x.tif.coverage.parquet"),
        f"{geojson}-2": str(tmp_path / "b" / "c" / f"x.tif.{geojson}"),
        "parquet-2": str(tmp_path / "b" / "c" / "x.tif.parquet"),
        "coverage-2": str(tmp_path / "b" / "c" / "x.tif.coverage.parquet"),
    }
    assert len(json.loads(Path(done[f"{geojson}-2"]).read_text())["features"]) == 60
    assert len(geopandas.read_parquet(done["parquet"])) == 60
    assert geopandas.read_parquet(done["coverage-2"])["reason"].tolist() == ["HTTP 500"] * 2


def test_where_every_tile_failed_the_ledger_alone_is_published(tmp_path: Path) -> None:
    done = publish([folder_output(tmp_path)], results(None), "x.tif", roots=[tmp_path]).uris
    assert done == {"coverage": str(tmp_path / "x.tif.coverage.parquet")}
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"x.tif.coverage.parquet", "x.tif.swath.json"}


def test_a_run_that_fails_leaves_no_features_of_an_earlier_run(tmp_path: Path) -> None:
    others = [tmp_path / name for name in ("x.tif", "x.tif.geojson.txt", "y.tif.geojson")]
    for other in others:
        other.write_text("kept")
    outputs = [folder_output(tmp_path)]
    publish(outputs, results(detections()), "x.tif", roots=[tmp_path])
    done = publish(outputs, results(None), "x.tif", roots=[tmp_path]).uris
    ledger = Path(done["coverage"])
    assert sorted(tmp_path.iterdir()) == sorted([*others, ledger, tmp_path / "x.tif.swath.json"])
    assert all(other.read_text() == "kept" for other in others)


@pytest.mark.parametrize("ending", ["tif", "qml"])
def test_an_image_or_a_style_of_somebody_else_is_left_alone(tmp_path: Path, ending: str) -> None:
    other = tmp_path / f"scene.{ending}"  # where that of a raster of an image `scene` would be
    other.write_bytes(b"of somebody else")
    for features in (results(detections()), results(None)):
        publish([folder_output(tmp_path)], features, "scene", roots=[tmp_path])
    assert other.read_bytes() == b"of somebody else"


def test_a_run_that_fails_leaves_no_raster_of_an_earlier_run(tmp_path: Path) -> None:
    raster = replace(results(None), rasters={"raster": lambda: iter([b"a", b"b"])})
    done = publish([folder_output(tmp_path)], raster, "scene", roots=[tmp_path]).uris
    assert Path(done["raster"]).read_bytes() == b"ab"
    publish([folder_output(tmp_path)], results(None), "scene", roots=[tmp_path])
    assert not Path(done["raster"]).exists()


def test_features_that_cannot_be_removed_are_named_and_keep_their_own_ledger(
    tmp_path: Path,
) -> None:
    ledger, blocked = tmp_path / "x.tif.coverage.parquet", tmp_path / "x.tif.parquet"
    blocked.mkdir()  # a folder is not removed in place of a file
    ledger.write_text("of the earlier run")
    with pytest.raises(PublishError, match=r"outputs\[0\]: Cannot remove .*x\.tif\.parquet"):
        publish([folder_output(tmp_path)], results(None), "x.tif", roots=[tmp_path])
    assert ledger.read_text() == "of the earlier run"


def test_one_output_that_fails_does_not_prevent_the_others(
    tmp_path: Path, georeference: Place
) -> None:
    roots = [tmp_path / "allowed"]
    outputs = [folder_output(tmp_path / "elsewhere"), folder_output(roots[0])]
    done = publish(outputs, results(detections(), georeference), "x.tif", roots)
    assert [(each.output, each.format) for each in done.failed] == [(0, None)]
    assert "SWATH_LOCAL_ROOTS" in done.failed[0].reason
    assert done.uris["parquet"] == str(roots[0] / "x.tif.parquet")
    assert not (tmp_path / "elsewhere").exists()
    names = {path.name for path in roots[0].iterdir()}
    geojson = "geojson" if georeference else "pixels.geojson"
    endings = (geojson, "parquet", "coverage.parquet", "swath.json")
    assert names == {f"x.tif.{ending}" for ending in endings}


def test_outputs_of_one_disk_do_not_share_their_files(tmp_path: Path) -> None:
    outputs = [folder_output(tmp_path / "a"), folder_output(tmp_path / "b")]
    publish(outputs, results(detections(), DEGREES), "x.tif", roots=[tmp_path])
    for name in ("x.tif.geojson", "x.tif.parquet", "x.tif.coverage.parquet"):
        first, second = ((tmp_path / folder / name).stat() for folder in "ab")
        assert first.st_ino != second.st_ino
        assert (first.st_nlink, second.st_nlink) == (1, 1)
