"""The page of an image's results: what is in the file. A browser opens it in tests/integration."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks.imagery import open_image
from tasks.imagery.georeference.affine import AffineGeoreference
from tasks.publish import publish
from tasks.publish.page import page_of_files
from tasks.publish.page.best_features import BestFeatures
from tasks.publish.page.pixel_sizes import pixel_sizes
from tasks.publish.page.tile_areas import STATES, tile_areas
from tasks.request import FileOutput
from tasks.request.outputs import FeatureFormat
from tasks.results import coverage
from tasks.results.coverage import TileState
from tests.provenance import provenance
from tests.result_pages import (
    FAILURE,
    HOSTILE,
    detections,
    ledger,
    results,
    written,
)

GEOMETRY = shapely.box(0, 0, 1, 1)


def words(page: str) -> dict[str, Any]:
    """What a page says in words."""
    found = re.search(r'<script type="application/json" id="facts">(.*?)</script>', page)
    assert found
    read: dict[str, Any] = json.loads(found[1])
    return read


def columns(page: str) -> dict[str, NDArray[Any]]:
    """The numbers of a page."""
    found = re.search(r'<script type="text/plain" id="columns">(.*?)</script>', page)
    assert found
    packed = zlib.decompress(base64.b64decode(found[1]))
    return {
        name: np.frombuffer(packed, kind, length, offset)
        for name, (kind, offset, length) in words(page)["columns"].items()
    }


def boxes_of(scores: list[float]) -> pa.Table:
    number = len(scores)
    rows = {name: np.arange(number, dtype=float) for name in ("x_min", "y_min", "x_max", "y_max")}
    names = pa.array([f"c{at % 3}" for at in range(number)], pa.string())
    return pa.table({**rows, "score": pa.array(scores, pa.float64()), "class_name": names})


@given(
    st.lists(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5]), max_size=30), max_size=8),
    st.integers(1, 20),
)
def test_the_best_are_kept_and_of_equal_ones_the_first(
    batches: list[list[float]], limit: int
) -> None:
    best, number = BestFeatures(limit), 0
    for scores in batches:
        ids = [f"{number + at:032x}" for at in range(len(scores))]
        geometry = np.full(len(scores), GEOMETRY)
        best.add(boxes_of(scores), geometry, np.full((len(scores), 2), np.nan), ids)
        number += len(scores)
    every = np.array([score for scores in batches for score in scores])
    expected = np.argsort(-every, kind="stable")[:limit]
    found, classes = best.columns()
    np.testing.assert_array_equal(found["ids"][:, -1], expected % 256)
    np.testing.assert_array_equal(found["scores"], every[expected].astype(np.float32))
    assert best.count == number == sum(count for _, count in classes)


def test_a_box_has_no_outline_of_its_own_and_another_shape_has() -> None:
    shapes = np.array([
        shapely.box(0, 0, 10, 10),
        shapely.Point(50, 50).buffer(20).difference(shapely.Point(50, 50).buffer(10)),
        shapely.MultiPolygon([shapely.Polygon([(0, 0), (9, 0), (0, 9)])]),
        shapely.LineString([(0, 0), (9, 5)]),
    ])  # fmt: skip
    x_min, y_min, x_max, y_max = shapely.bounds(shapes).T
    sides = {"x_min": x_min, "y_min": y_min, "x_max": x_max, "y_max": y_max}
    table = pa.table({**sides, "score": [0.9, 0.8, 0.7, 0.6], "class_name": ["a"] * 4})
    best = BestFeatures()
    best.add(table, shapes, np.zeros((4, 2)), ["0" * 32] * 4)
    found, _ = best.columns()
    assert found["owners"].tolist() == [1, 1, 2, 3]  # a ring, its hole, a triangle, a line
    assert np.diff(found["starts"])[2:].tolist() == [4, 2]


def test_of_a_point_with_a_box_the_box_is_drawn() -> None:
    shapes = np.array([shapely.Point(5, 5), shapely.MultiPoint([(1, 1), (9, 9)])])
    sides = {"x_min": [0, 0], "y_min": [0, 0], "x_max": [10, 10], "y_max": [10, 10]}
    table = pa.table({**sides, "score": [0.9, 0.8], "class_name": ["a"] * 2})
    best = BestFeatures()
    best.add(table, shapes, np.zeros((2, 2)), ["0" * 32] * 2)
    assert best.columns()[0]["owners"].tolist() == []


def test_an_outline_of_a_great_many_vertices_is_simplified() -> None:
    turns = np.linspace(0, 2 * np.pi, 100_000)
    radius = 1000 + 300 * np.sin(5000 * turns)
    star = shapely.Polygon(np.stack([radius * np.cos(turns), radius * np.sin(turns)], axis=1))
    x_min, y_min, x_max, y_max = star.bounds
    table = pa.table({
        "x_min": [x_min], "y_min": [y_min], "x_max": [x_max], "y_max": [y_max],
        "score": [0.5], "class_name": ["a"],
    })  # fmt: skip
    best = BestFeatures()
    best.add(table, np.array([star], object), np.zeros((1, 2)), ["0" * 32])
    assert len(best.columns()[0]["vertices"]) <= 1 << 14


def test_tiles_that_follow_each_other_are_one_area() -> None:
    areas, reasons = tile_areas(ledger())
    by_state = {
        STATES[state]: (area.tolist(), tiles, reasons[reason])
        for area, state, tiles, reason in zip(*areas.values(), strict=True)
    }
    assert by_state == {
        TileState.FAILED: ([400, 400, 200, 100], 2, FAILURE),
        TileState.BLANK: ([0, 100, 900, 100], 9, "nodata 0"),
        TileState.OUTSIDE: ([0, 0, 900, 100], 9, ""),
    }


def test_every_tile_without_an_answer_is_in_an_area() -> None:
    told = ledger(failed=True)
    areas, _ = tile_areas(told)
    assert areas["areaTiles"].sum() == coverage.count(told)[TileState.FAILED]
    assert areas["areas"][:, 2].sum() * 100 == 900 * 700


def test_no_name_ends_its_element(tmp_path: Path) -> None:
    content = results(tmp_path, detections(50, [HOSTILE, "{{library}}", "&amp;<!--"]))
    page = written(tmp_path / "x.html", content).read_text()
    assert page.count("</script") == page.count("<script") == 4
    assert HOSTILE not in page
    assert HOSTILE in [name for name, _ in words(page)["classes"]]


def test_a_failed_run_has_a_page(tmp_path: Path) -> None:
    output = FileOutput(
        type="File", path=str(tmp_path / "out"), formats=(FeatureFormat.HTML, FeatureFormat.PARQUET)
    )
    published = publish([output], results(tmp_path, None), "scene.tif", [tmp_path])
    assert set(published.uris) == {"html", "coverage"}
    said = words((tmp_path / "out" / "scene.tif.html").read_text())
    assert (said["status"], said["reasons"]) == ("FAILED", [[FAILURE, 63]])


def test_a_page_made_of_published_files_shows_the_same(tmp_path: Path) -> None:
    content = results(tmp_path, detections(300))
    output = FileOutput(
        type="File", path=str(tmp_path), formats=(FeatureFormat.HTML, FeatureFormat.PARQUET)
    )
    uris = publish([output], content, "scene.tif", [tmp_path]).uris
    image = open_image(str(tmp_path / "scene.tif"), roots=[tmp_path])
    made = page_of_files(
        content.metadata.provenance, Path(uris["coverage"]), Path(uris["parquet"]), None, image
    )
    page = Path(uris["html"]).read_text()
    own, again = words(page), words(made)
    assert {**own, "rows": 0} == {**again, "rows": 0}
    assert set(map(tuple, again["rows"])) < set(map(tuple, own["rows"]))  # without the request
    for name, column in columns(page).items():
        np.testing.assert_array_equal(column, columns(made)[name])


def test_a_raster_lies_over_the_image_with_its_legend(tmp_path: Path) -> None:
    content = results(tmp_path, None)
    pixels = np.full((1, 700, 900), 3, np.uint8)
    pixels[0, 350:] = 255
    profile: Mapping[str, Any] = {"width": 900, "height": 700, "count": 1, "dtype": "uint8"}
    with rasterio.open(tmp_path / "map.tif", "w", "GTiff", nodata=255, **profile) as dataset:
        dataset.write(pixels)
        dataset.write_colormap(1, {3: (0, 0, 255, 255)})
        dataset.update_tags(1, CLASS_3=HOSTILE)
    output = FileOutput(type="File", path=str(tmp_path), formats=())
    uris = publish([output], content, "scene.tif", [tmp_path]).uris
    page = page_of_files(
        provenance(), Path(uris["coverage"]), None, tmp_path / "map.tif", "the image is away"
    )
    assert words(page)["layer"]["legend"] == [[[0, 0, 255], f"{HOSTILE} 100 %"]]
    assert words(page)["look"] == {"url": "", "note": "No picture: the image is away"}
    assert (words(page)["width"], words(page)["height"]) == (900, 700)


@pytest.mark.parametrize(
    ("west", "north", "crs"), [(179.9, 10.0, "EPSG:4326"), (-400_000.0, 300_000.0, "EPSG:3995")]
)
def test_over_the_antimeridian_and_a_pole_places_are_those_of_the_other_files(
    tmp_path: Path, west: float, north: float, crs: str
) -> None:
    pixel = 1e-3 if crs == "EPSG:4326" else 1000.0
    transform = Affine(pixel, 0, west, 0, -pixel, north)
    georeference = AffineGeoreference(transform, crs, (900, 700))
    content = replace(results(tmp_path, detections(200)), georeference=georeference)
    formats = (FeatureFormat.HTML, FeatureFormat.GEOJSON)
    output = FileOutput(type="File", path=str(tmp_path), formats=formats)
    uris = publish([output], content, "scene.tif", [tmp_path]).uris
    features = json.loads(Path(uris["geojson"]).read_text())["features"]
    places = {
        each["id"]: [each["properties"][f"center_{name}"] for name in ("longitude", "latitude")]
        for each in features
    }
    found = columns(Path(uris["html"]).read_text())
    ids = [bytes(each).hex() for each in found["ids"].reshape(-1, 16)]
    expected = np.array([places[each] for each in ids])
    np.testing.assert_allclose(found["places"].reshape(-1, 2) / 1e7, expected, atol=1e-7)
    assert np.ptp(expected[:, 0]) > 300  # on both sides


def test_without_a_georeference_no_place_is_told(tmp_path: Path) -> None:
    content = replace(results(tmp_path, detections(5)), georeference=None)
    page = written(tmp_path / "x.html", content).read_text()
    assert set(columns(page)["places"]) == {-(2**31)}


def test_the_size_of_pixels_is_that_on_the_ground_in_each_part(tmp_path: Path) -> None:
    profile: dict[str, Any] = {"width": 90, "height": 180, "count": 1, "dtype": "uint8"}
    transform = Affine(0.5, 0, 10, 0, -0.5, 45)  # degrees, from 45 to -45 of latitude
    with rasterio.open(
        tmp_path / "world.tif", "w", "GTiff", crs="EPSG:4326", transform=transform, **profile
    ) as sink:
        sink.write(np.ones((1, 180, 90), np.uint8))
    sizes = np.array(pixel_sizes(open_image(str(tmp_path / "world.tif"), roots=[tmp_path])))
    latitudes = np.radians(45 - 90 * (np.arange(9) + 0.5) / 9)
    np.testing.assert_allclose(sizes, np.outer(55_660 * np.cos(latitudes), np.ones(9)), rtol=3e-3)
