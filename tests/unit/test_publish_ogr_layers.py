"""What GDAL writes is whole or an error; the antimeridian and the poles are right in each file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import geopandas
import pyarrow as pa
import pyogrio
import pytest
import shapely
from affine import Affine

from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.publish import publish
from tasks.publish.flat_features import schema_of
from tasks.publish.ogr_layers import ogr_settings, write_layer
from tasks.request import FeatureFormat, FileOutput
from tests.gis_features import results_of, row, write

POLE = AffineGeoreference(Affine(30, 0, -15_000, 0, -30, 15_000), "EPSG:3413", (1000, 1000))
DATE_LINE = AffineGeoreference(Affine(0.01, 0, 175, 0, -0.01, 10), "EPSG:4326", (1000, 1000))
OPTIONS = {
    "driver": "GPKG", "layer": "features", "geometry_type": "Polygon", "geometry_name": "geometry"
}  # fmt: skip
FORMATS = [("gpkg", "gpkg"), ("flatgeobuf", "fgb")]


@pytest.mark.parametrize("raised", [KeyboardInterrupt, ValueError])
def test_an_error_while_rows_are_read_stays_what_it_is(
    tmp_path: Path, raised: type[BaseException]
) -> None:
    results = results_of([])

    def rows() -> Iterator[pa.RecordBatch]:
        raise raised("stopped")
        yield

    with pytest.raises(raised, match="stopped"), ogr_settings(results):
        write_layer(tmp_path / "x.gpkg", rows(), schema_of(results.metadata), results, OPTIONS)


def test_a_file_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    results = results_of([])
    path = tmp_path / "absent" / "x.gpkg"
    with pytest.raises(OSError, match=r"x\.gpkg"), ogr_settings(results):
        write_layer(path, [], schema_of(results.metadata), results, OPTIONS)


def test_the_settings_of_gdal_are_put_back() -> None:
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    with ogr_settings(results_of([])):
        assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") == "2026-11-22T10:17:48.000Z"
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") == before


@pytest.mark.parametrize(("name", "ending"), FORMATS)
def test_a_box_over_a_pole_reaches_it(tmp_path: Path, name: str, ending: str) -> None:
    over = row(0, x_min=490, y_min=480, x_max=520, y_max=515)
    path = write(tmp_path / f"x.{ending}", name, results_of([over], POLE))
    (shape,) = geopandas.read_file(path, layer="features").geometry
    assert shape.is_valid
    west, south, east, north = shape.bounds
    assert (west, east, north) == (-180, 180, 90)
    assert south > 89.9
    assert shape.contains(shapely.Point(0, 89.999))


@pytest.mark.parametrize(("name", "ending"), FORMATS)
def test_a_box_over_the_antimeridian_is_cut_there(tmp_path: Path, name: str, ending: str) -> None:
    over = row(0, x_min=495, y_min=10, x_max=510, y_max=20)
    path = write(tmp_path / f"x.{ending}", name, results_of([over], DATE_LINE))
    (shape,) = geopandas.read_file(path, layer="features").geometry
    assert [part.bounds[::2] for part in sorted(shape.geoms, key=lambda part: part.bounds)] == [
        pytest.approx((-180, -179.9)), pytest.approx((179.95, 180))
    ]  # fmt: skip


def test_the_same_ids_are_in_all_formats(tmp_path: Path) -> None:
    formats = tuple(each for each in FeatureFormat if each.value != "html")
    output = FileOutput(type="File", path=str(tmp_path), formats=formats)
    rows = [row(number) for number in range(5)]
    files = publish([output], results_of(rows, pixel_metres=100.0), "x.tif", roots=[tmp_path]).uris
    expected = {each["id"] for each in json.loads(Path(files["geojson"]).read_text())["features"]}
    assert len(expected) == 5
    for kind in ("gpkg", "flatgeobuf", "pmtiles"):
        assert {*geopandas.read_file(files[kind], layer="features")["id"]} == expected
    annotations = json.loads(Path(files["coco"]).read_text())["annotations"]
    assert {each["feature"] for each in annotations} == expected
    lines = Path(files["csv"]).read_text().splitlines()[1:]
    assert {line.split(",")[0].strip('"') for line in lines} == expected
