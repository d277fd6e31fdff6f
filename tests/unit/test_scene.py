"""The generated harbour: its file, its truth, and the scoring of what was found."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio.enums import Compression

from deployments.demo.harbour import scene
from deployments.demo.harbour.truth import Score, Truth, score
from tasks.grid.tiles import Grid
from tasks.inference import builtin
from tasks.inference.answer import read_answer
from tasks.merge import settle
from tasks.request import Algorithm
from tasks.results.detections import boxes, concatenate

SIZE = 2048


@pytest.fixture(scope="module")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Truth]:
    path = tmp_path_factory.mktemp("scene") / "harbour.tif"
    shares: list[float] = []
    truth = scene.generate(path, size=SIZE, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    return path, truth


def test_the_scene_is_a_georeferenced_cog(harbour: tuple[Path, Truth]) -> None:
    with rasterio.open(harbour[0]) as image:
        assert (image.width, image.height, image.count) == (SIZE, SIZE, 3)
        assert image.dtypes == ("uint8",) * 3
        assert image.nodata == 0
        assert image.crs.to_epsg() == 32633
        assert image.block_shapes == [(512, 512)] * 3
        assert image.overviews(1)
        assert image.compression == Compression.deflate
        assert image.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_the_border_is_nodata_and_the_inside_is_not(harbour: tuple[Path, Truth]) -> None:
    with rasterio.open(harbour[0]) as image:
        pixels = image.read()
    blank = (pixels == 0).all(axis=0)
    assert ((pixels == 0).any(axis=0) == blank).all()
    assert 0.1 < blank.mean() < 0.5
    corner = pixels[:, : SIZE // 20, : SIZE // 20]
    assert not corner.any()


def test_ships_are_inside_apart_and_brighter_than_the_water(harbour: tuple[Path, Truth]) -> None:
    path, truth = harbour
    hulls = [shapely.Polygon(outline) for outline in truth.outlines]
    assert len(hulls) > 40
    assert all(hull.is_valid for hull in hulls)
    sides = np.array(
        [shapely.minimum_rotated_rectangle(hull).length / 2 for hull in hulls]
    )  # length + beam
    assert sides.min() > 8
    assert sides.max() < 150
    pairs = shapely.STRtree(hulls).query(hulls, predicate="intersects")
    assert (pairs[0] == pairs[1]).all()
    with rasterio.open(path) as image:
        level = image.read().mean(axis=0)
    middles = np.array([outline.mean(axis=0) for outline in truth.outlines]).astype(int)
    assert (level[middles[:, 1], middles[:, 0]] > 0).all()
    assert np.median(level[middles[:, 1], middles[:, 0]]) > 2 * np.median(level[level > 0])


def test_some_ships_lie_over_tile_edges(harbour: tuple[Path, Truth]) -> None:
    columns = Grid(SIZE, SIZE, 512, 128).columns
    edges = np.array([*columns[1:], *[column + 512 for column in columns[:-1]]])
    boxes = harbour[1].boxes
    cut = (boxes[:, :1] < edges) & (edges < boxes[:, 2:3])
    assert cut.any(axis=1).sum() >= 3


def test_the_scene_does_not_depend_on_the_height_of_strips(
    harbour: tuple[Path, Truth], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scene, "STRIP", 333)
    again = scene.generate(tmp_path / "again.tif", size=SIZE)
    with rasterio.open(harbour[0]) as first, rasterio.open(tmp_path / "again.tif") as second:
        np.testing.assert_array_equal(first.read(), second.read())
    assert again.boxes.tolist() == harbour[1].boxes.tolist()


def test_another_seed_is_another_harbour(tmp_path: Path) -> None:
    one = scene.generate(tmp_path / "one.tif", size=512, seed=1)
    two = scene.generate(tmp_path / "two.tif", size=512, seed=2)
    assert one.boxes.tolist() != two.boxes.tolist()


def test_the_truth_is_saved_and_loaded(harbour: tuple[Path, Truth]) -> None:
    path, truth = harbour
    loaded = Truth.load(path.with_name("truth.geojson"))
    assert loaded.classes == truth.classes
    assert loaded.crs == truth.crs
    assert loaded.transform == truth.transform
    for one, other in zip(loaded.outlines, truth.outlines, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_truth_has_the_georeference_of_the_image(tmp_path: Path) -> None:
    outline = np.array([(10.0, 20.0), (30.0, 20.0), (30.0, 25.0)])
    transform = Affine(0.5, 0, 388_000, 0, -0.5, 5_034_000)
    Truth((outline,), ("ferry",), "EPSG:32633", transform).save(tmp_path / "truth.geojson")
    text = (tmp_path / "truth.geojson").read_text()
    longitude, latitude = Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True).transform(
        388_005, 5_033_990
    )
    ring = shapely.from_geojson(text).geoms[0].exterior.coords
    assert ring[0] == pytest.approx((longitude, latitude), abs=1e-7)
    assert ring[0] == ring[-1]


def test_the_detector_finds_the_ships(harbour: tuple[Path, Truth]) -> None:
    path, truth = harbour
    model = builtin.create_model("bright-targets")
    with rasterio.open(path) as image:
        pixels = image.read()
    grid = Grid(SIZE, SIZE, 512, 128)
    tiles = list(grid.tiles(*grid.regions(SIZE)))
    answers = (
        read_answer(model(pixels[(slice(None), *tile.window.toslices())]), tile) for tile in tiles
    )
    found = concatenate([each.detections for each in answers if each.detections is not None])
    merged = settle(found, Algorithm(), grid, np.ones(len(tiles), np.int8)).decided
    result = score(boxes(merged), truth.boxes)
    assert result.recall >= 0.97
    assert result.precision >= 0.95
    assert result.duplicates == 0


BOX = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 20), st.integers(1, 20)).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)
BOXES = st.lists(BOX, max_size=8).map(lambda boxes: np.array(boxes, float).reshape(-1, 4))


@given(found=BOXES, truth=BOXES)
def test_score_counts_every_box_once(
    found: NDArray[np.float64], truth: NDArray[np.float64]
) -> None:
    result = score(found, truth)
    assert result.matched + result.false == len(found)
    assert result.matched + result.missed == len(truth)
    assert result.duplicates <= result.false
    mirrored = score(truth, found)
    assert (mirrored.matched, mirrored.missed) == (result.matched, result.false)


def test_score_of_known_boxes() -> None:
    truth = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], float)
    found = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 4], [70, 70, 80, 80]], float)
    assert score(found, truth) == Score(0.25, 1 / 3, matched=1, missed=2, false=3, duplicates=1)
    assert score(found[:0], truth) == Score(1.0, 0.0, matched=0, missed=3, false=0, duplicates=0)
    assert score(found[:0], truth[:0]).recall == 1
