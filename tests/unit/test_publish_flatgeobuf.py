"""FlatGeobuf opens in GDAL and GeoPandas, which reads a bounding box by its index."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyogrio
import pytest
import shapely
from affine import Affine

from tasks.imagery.georeference.affine import AffineGeoreference
from tests.gis_features import DEEP, LARGE, NAMES, odd, outline, results_of, row, write

DATE_LINE = AffineGeoreference(Affine(0.01, 0, 179.5, 0, -0.01, 10), "EPSG:4326", (200, 200))


def read(path: Path, **how: Any) -> geopandas.GeoDataFrame:
    return geopandas.read_file(path, **how).sort_values("score", ignore_index=True)


def test_geopandas_reads_what_was_written(tmp_path: Path) -> None:
    frame = read(write(tmp_path / "x.fgb", "flatgeobuf", results_of(odd())))
    assert frame.crs == "EPSG:4326"
    assert frame["class"].tolist() == NAMES
    np.testing.assert_array_equal(frame["score"], np.arange(1, 7) / 7)
    properties = [json.loads(text) for text in frame["properties"]]
    assert properties[1:3] == [{"size": LARGE}, {"deep": DEEP}]
    assert frame["acquired"].notna().all()


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_it_has_an_index_and_the_type_of_its_geometries(tmp_path: Path, count: int) -> None:
    path = write(tmp_path / "x.fgb", "flatgeobuf", results_of(map(row, range(count))))
    about = pyogrio.read_info(path, force_feature_count=True)
    assert about["features"] == count
    assert about["fields"].tolist() == [
        "id", "class", "score", "acquired", "area_square_metres", "properties"
    ]  # fmt: skip
    assert about["geometry_type"] == "Polygon"
    if count:
        assert about["capabilities"]["fast_spatial_filter"]
        assert len(geopandas.read_file(path, bbox=(0, 0, 0.009, 0.009))) == 1


def test_beyond_a_number_of_features_it_has_no_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.publish.flatgeobuf.MOST_INDEXED", 5)
    path = write(tmp_path / "x.fgb", "flatgeobuf", results_of(odd()))
    assert not pyogrio.read_info(path)["capabilities"]["fast_spatial_filter"]
    assert geopandas.read_file(path)["class"].tolist() == NAMES


def test_parts_lines_and_points_lie_side_by_side(tmp_path: Path) -> None:
    shapes: Sequence[shapely.Geometry] = [
        shapely.Point(3, 4), shapely.LineString([(0, 0), (9, 9)]), shapely.box(40, 0, 60, 10)
    ]  # fmt: skip
    rows = [row(number, score=number / 4, **outline(each)) for number, each in enumerate(shapes)]
    frame = read(write(tmp_path / "x.fgb", "flatgeobuf", results_of(rows, DATE_LINE)))
    assert frame.geom_type.tolist() == ["Point", "LineString", "MultiPolygon"]  # cut at 180°
    assert frame.geometry.is_valid.all()


def test_without_a_georeference_it_has_pixels(tmp_path: Path) -> None:
    frame = read(write(tmp_path / "x.fgb", "flatgeobuf", results_of([row(3)], None)))
    assert frame.crs is None
    assert frame.geometry[0].bounds == (36, 0, 46, 10)


@pytest.mark.skipif(shutil.which("ogrinfo") is None, reason="needs gdal-bin")
@pytest.mark.parametrize("count", [0, 3])
def test_debians_gdal_opens_it_without_a_warning(tmp_path: Path, count: int) -> None:
    path = write(tmp_path / "x.fgb", "flatgeobuf", results_of(map(row, range(count))))
    done = subprocess.run(
        ["ogrinfo", "-so", "-al", path], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert f"Feature Count: {count}\n" in done.stdout


def test_features_without_a_place_are_kept_without_an_index(tmp_path: Path) -> None:
    """Pixels of an image can lie where its projection is not defined."""
    far = AffineGeoreference(Affine(1e6, 0, 5e5, 0, -1e6, 5e6), "EPSG:32633", (200, 200))
    path = write(tmp_path / "x.fgb", "flatgeobuf", results_of([row(0), row(14)], far))
    assert len(pyogrio.read_dataframe(path)) == 2
    assert pyogrio.read_dataframe(path).geometry.isna().any()
