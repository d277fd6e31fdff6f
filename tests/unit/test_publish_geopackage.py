"""GeoPackage opens in GDAL, GeoPandas and QGIS, which draws it by the style that it has."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine
from shapely.affinity import translate

from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.publish import publish
from tasks.publish.colours import class_colours
from tasks.publish.feature_style import feature_style
from tasks.publish.measures import MEASURES
from tasks.request import FeatureFormat, FileOutput, RasterOutput
from tests.gis_features import DEEP, LARGE, NAMES, odd, outline, results_of, row, write
from tests.qgis_files import has_qgis, in_qgis

needs_gdal = pytest.mark.skipif(shutil.which("ogrinfo") is None, reason="needs gdal-bin")
needs_qgis = pytest.mark.skipif(not has_qgis(), reason="needs Debian's python3-qgis")
DATE_LINE = AffineGeoreference(Affine(0.01, 0, 179.5, 0, -0.01, 10), "EPSG:4326", (200, 200))


def read(path: Path, layer: str = "features") -> geopandas.GeoDataFrame:
    return geopandas.read_file(path, layer=layer)


def test_geopandas_reads_what_was_written(tmp_path: Path) -> None:
    frame = read(write(tmp_path / "x.gpkg", "gpkg", results_of(odd())))
    assert list(frame.columns) == [
        "id", "class", "score", "acquired", "area_square_metres", "properties", "geometry"
    ]  # fmt: skip
    np.testing.assert_allclose(frame["area_square_metres"], 1113.2 * 1105.7, rtol=1e-3)
    assert frame.crs == "EPSG:4326"
    assert frame["class"].tolist() == NAMES
    np.testing.assert_array_equal(frame["score"], np.arange(1, 7) / 7)
    assert frame["acquired"].iloc[0] == datetime(2026, 1, 1, tzinfo=UTC)
    properties = [json.loads(text) for text in frame["properties"]]
    assert properties[1:5] == [
        {"size": LARGE}, {"deep": DEEP}, {"text": 'a "b"\n\0'}, {"fid": 1, "id": 2}
    ]  # fmt: skip
    expected = shapely.box(0, 0, 10, 10)
    shown = shapely.transform(frame.geometry[0], lambda xy: xy / 1e-3)
    assert shown.normalize().equals_exact(expected.normalize(), 1e-9)


@needs_gdal
@pytest.mark.parametrize("count", [0, 3])
def test_debians_gdal_opens_it_without_a_warning(tmp_path: Path, count: int) -> None:
    path = write(tmp_path / "x.gpkg", "gpkg", results_of(map(row, range(count))))
    done = subprocess.run(
        ["ogrinfo", "-so", "-al", path], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert f"Geometry: Polygon\nFeature Count: {count}\n" in done.stdout
    assert "class: String" in done.stdout


def test_without_a_georeference_it_has_pixels_in_no_reference_system(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gpkg", "gpkg", results_of([row(3)], None))
    frame = read(path)
    assert frame.geometry[0].bounds == (36, 0, 46, 10)
    assert "Undefined Cartesian" in str(frame.crs)


def test_the_layer_has_the_type_of_all_geometries(tmp_path: Path) -> None:
    across = results_of([row(0), row(4)], DATE_LINE)  # cut in two at 180°
    path = write(tmp_path / "x.gpkg", "gpkg", across)
    assert pyogrio.read_info(path, layer="features")["geometry_type"] == "MultiPolygon"
    frame = read(path)
    assert set(frame.geom_type) == {"MultiPolygon"}
    assert [len(each.geoms) for each in frame.geometry] == [1, 2]
    assert frame.geometry.is_valid.all()


def test_points_and_lines_beside_polygons_have_layers_of_their_own(tmp_path: Path) -> None:
    rows = [
        row(0),
        row(1, **outline(shapely.Point(3, 4))),
        row(2, **outline(shapely.LineString([(0, 0), (9, 9)]))),
        row(3, **outline(shapely.MultiPoint([(3, 4), (5, 6)]))),
    ]
    path = write(tmp_path / "x.gpkg", "gpkg", results_of(rows))
    layers = dict(pyogrio.list_layers(path).tolist())
    assert layers == {
        "features": "Polygon", "lines": "LineString", "points": "MultiPoint", "layer_styles": None
    }  # fmt: skip
    assert [len(read(path, name)) for name in list(layers)[:3]] == [1, 1, 2]
    alone = write(tmp_path / "y.gpkg", "gpkg", results_of(rows[1:2]))
    assert pyogrio.list_layers(alone).tolist()[0] == ["features", "Point"]


def test_every_collection_of_parts_is_in_a_layer(tmp_path: Path) -> None:
    point, line = shapely.Point(1, 1), shapely.LineString([(0, 0), (9, 9)])
    collections = [[point, shapely.box(2, 2, 4, 4)], [point, line]]  # of an area; of none
    rows = [
        row(number, **outline(shapely.GeometryCollection(parts)))
        for number, parts in enumerate(collections)
    ]
    path = write(tmp_path / "x.gpkg", "gpkg", results_of(rows))
    assert [len(read(path, name)) for name in ("features", "lines")] == [1, 1]


def test_measures_of_oriented_boxes_are_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "x.gpkg", "gpkg", results_of([row(0)], oriented=True))
    assert {*MEASURES} <= {*read(path).columns}


def test_an_embedding_is_a_list_of_numbers(tmp_path: Path) -> None:
    vector = [0.1, 2.0, -3.5]
    rows = [row(0, properties=json.dumps({"embedding": vector}))]
    path = write(tmp_path / "x.gpkg", "gpkg", results_of(rows, embedding_size=3))
    frame = read(path)
    assert json.loads(frame["embedding"][0]) == vector
    assert frame["properties"][0] == "{}"


def test_nothing_in_it_depends_on_the_clock(tmp_path: Path) -> None:
    content = write(tmp_path / "x.gpkg", "gpkg", results_of(odd())).read_bytes()
    assert b"2026-11-22T10:17:48.000Z" in content  # the time of the run
    assert f"{datetime.now(UTC):%Y-%m-%dT}".encode() not in content


@needs_qgis
def test_qgis_draws_it_by_class_and_score_at_once(tmp_path: Path) -> None:
    many = results_of(row(number, class_name=f"c{number}") for number in range(600))
    paths = [
        write(tmp_path / "odd.gpkg", "gpkg", results_of(odd())),
        write(tmp_path / "none.gpkg", "gpkg", results_of([])),
        write(tmp_path / "pixels.gpkg", "gpkg", results_of(odd(), None)),
        write(tmp_path / "many.gpkg", "gpkg", many),
    ]
    found, none, pixels, large = in_qgis(tmp_path, paths)
    for each in (found, none, pixels, large):
        assert each.about["valid"]
        assert each.about["renderer"] == "categorizedSymbol"
        assert each.about["labels"] == ['"class" || \' \' || format_number("score", 2)', True]
        assert {opacity for *_, opacity in each.about["classes"]} == {'30 + 70 * "score"'}
    names = [name for name, *_ in found.about["classes"]]
    assert names == [*sorted(NAMES[:-1]), ""]  # XML cannot hold the last one
    assert found.about["crs"] == "EPSG:4326"
    assert found.about["features"] == 6
    assert len(large.about["classes"]) == 501
    assert none.about["features"] == 0
    drawn = found.picture[..., 3]
    strengths = [int(drawn[:, at].max()) for at in np.linspace(15, 240, 6).astype(int)]
    assert (drawn > 0).any()
    assert strengths == sorted(strengths)  # the scores rise from left to right


@needs_qgis
@pytest.mark.parametrize("shape", [None, shapely.Point(3, 4), shapely.LineString([(0, 0), (9, 9)])])
def test_qgis_takes_the_style_beside_flatgeobuf_and_geojson(
    tmp_path: Path, shape: shapely.Geometry | None
) -> None:
    both = (FeatureFormat.GEOJSON, FeatureFormat.FLATGEOBUF)
    outputs = [
        FileOutput(type="File", path=str(tmp_path / name), formats=formats)
        for name, formats in (("a", both), ("b", both[:1]))
    ]
    moved = [shape and translate(shape, 9 * number, 9 * number) for number in range(3)]
    results = results_of(
        row(number, **(outline(each) if each else {})) for number, each in enumerate(moved)
    )
    uris = publish(outputs, results, "x.tif", roots=[tmp_path]).uris
    assert [uri for name, uri in uris.items() if "style" in name] == [f"{tmp_path}/a/x.tif.qml"]
    for each in in_qgis(tmp_path, [tmp_path / "a" / f"x.tif.{end}" for end in ("fgb", "geojson")]):
        assert each.about["renderer"] == "categorizedSymbol"
        assert [name for name, *_ in each.about["classes"]] == ["ship", ""]
        assert (each.picture[..., 3] > 0).any()


def test_outlines_have_the_colours_of_their_raster() -> None:
    output = RasterOutput.model_validate(
        {
            "values": "classes",
            "classes": [
                {"value": 0, "name": "land"},
                {"value": 1, "name": "sea"},
                {"value": 2, "name": "reef", "colour": "#123456"},
            ],
        }
    )
    own = {"sea": 5, "reef": 3, "land": 1}
    assert class_colours(own, output) == {"sea": "#e69f00", "reef": "#123456", "land": "#0072b2"}
    assert list(class_colours(own).values()) == ["#0072b2", "#e69f00", "#009e73"]
    assert 'v="18,52,86,255"' in feature_style(own, 2, None, output)


def test_a_style_of_ten_thousand_classes_is_small() -> None:
    assert len(feature_style({f"class {number}": 1 for number in range(10_000)}, 2)) < 1_000_000
