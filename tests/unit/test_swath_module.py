"""`import swath`: quick, typed, and in the words of the command line."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from numpy.typing import NDArray

import swath
from deployments.python import keywords
from deployments.python.array import write_array
from deployments.run.merging import MergingOptions
from deployments.run.model import ModelOptions
from deployments.run.options import RunOptions, TilingOptions
from deployments.run.raster import RasterOptions
from tasks.errors import ImageError, RequestError

SLOW = {
    *("botocore", "cyclopts", "geopandas", "matplotlib", "numba", "numpy", "onnxruntime", "pandas"),
    *("prefect", "pyarrow", "pydantic", "rasterio", "rich", "scipy", "shapely"),
}
SQUARE = shapely.box(4, 51, 5, 52)


def names(*options: type) -> set[str]:
    found = {field.name for each in options for field in fields(each)}
    return found - {"images", "tiling", "merging", "preview"}


def test_it_is_imported_without_any_slow_library() -> None:
    program = "import sys, swath; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "swath" in loaded
    assert not SLOW & loaded


def test_run_has_the_words_of_the_command_line() -> None:
    own = {"image", "batch_size", "transform", "crs", "progress"}
    words = names(RunOptions, ModelOptions, TilingOptions, RasterOptions, MergingOptions)
    assert set(inspect.signature(swath.run).parameters) == words | own


def test_plan_has_the_words_of_the_command_line() -> None:
    own = {"image", "transform", "crs"}
    words = names(ModelOptions, TilingOptions, RasterOptions)
    assert set(inspect.signature(swath.plan).parameters) == words | own


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"tile_size": 8}, "tile_size"),
        ({"overlap": -1}, "overlap"),
        ({"iou": 2.0}, "iou"),
        ({"conf": 2.0}, "conf"),
        ({"conf": {"ship": 2.0}}, "conf ship"),
        ({"merge": "BEST"}, "merge"),
        ({"region_size": 0}, "region_size"),
        ({"region_size": "all"}, "region_size: 'all' is not a number"),
        ({"iou": "0.5"}, "iou: '0.5' is not a number"),
        ({"nodata": np.zeros(2)}, "nodata: array([0., 0.]) is not a number"),
        ({"classes": ["a\nb"]}, r"classes: 'a\nb' is no list of words"),
        ({"roi": "POINT (1 2)"}, "roi"),
        ({"roi": 3}, "roi: int"),
        ({"job_id": "a/b"}, "job_id"),
        ({"formats": ["shp"]}, "formats: 'shp' is not one of 'geojson'"),
        ({"type": "FTP"}, "type"),
        ({"parameters": {"speed": 3}}, "parameters"),
        ({"model": 3}, "model: 3"),
        ({"model": "a.onnx"}, "model"),
        ({"class_names": ["ship"]}, "class_names"),
        ({"raster": "logit"}, "raster: 'logit' is not one of "),
        ({"raster": {"unit": print}}, "raster: the dict has a value that JSON has not"),
        ({"raster": "logits"}, "class_names: is missing, and logits need one"),
        ({"raster": "classes", "blend": "max"}, "blend: is max, which does not go with classes"),
        ({"raster": "classes", "scores": "uint8"}, "scores: needs probabilities or logits"),
        ({"raster": "classes", "augment": "spins"}, "augment: 'spins' is not one of"),
        ({"min_area": 8}, "min_area: 8 is of polygons; give polygons too"),
        ({"min_area": "8"}, "min_area: '8' is not a number"),
        ({"raster": "classes", "iou": 0.5}, "iou: is for features"),
        ({"raster": "classes", "class_names": {0: "a", -1: "b"}}, "class_names: '-1=b' has no"),
        ({"model": print, "type": "ONNX"}, "type: a Python function"),
        ({"model": print, "parameters": {"a": 1}}, "parameters: a Python function"),
        ({"model": print, "batch_size": 0}, "batch_size"),
        ({"transform": Affine.identity()}, "transform: it is for arrays"),
        ({"crs": "EPSG:4326"}, "crs: it is for arrays"),
        ({"image": "no/such.tif"}, "no/such.tif"),
        ({"image": "."}, "image: . may be several images"),
        ({"image": ["a.tif", "b.tif"]}, "image: a list of paths may be several images"),
        ({"image": "*.tif"}, "may be several images"),
        ({"image": "https://images.example/a.tif"}, "curl"),
        ({"image": np.zeros(3)}, "image: an array of shape"),
    ],
)
def test_an_error_names_the_argument(
    arguments: dict[str, Any], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    image = tmp_path / "a.tif"
    write_array(image, np.zeros((64, 64), np.uint8))
    given: dict[str, Any] = {
        "image": image,
        "model": "bright-targets",
        "progress": False,
    } | arguments
    with pytest.raises(swath.SwathError) as caught:
        swath.run(**given)
    message = str(caught.value)
    assert named in message
    assert "--" not in message
    assert "imageProcessor" not in message
    assert list(tmp_path.iterdir()) == [image]


def test_numbers_may_be_of_numpy() -> None:
    given = {
        "tile_size": np.int64(64),
        "iou": np.float32(0.5),
        "nodata": np.array(0),
        "overlap": None,
    }
    found = keywords.numbers(**given)
    assert found == {"tile_size": 64, "iou": 0.5, "nodata": 0, "overlap": None}
    assert json.dumps(found)


@pytest.mark.parametrize(
    ("conf", "texts"),
    [(None, ()), (0.25, ("0.25",)), ({"ship": 0.4, "a,b": 0.5}, ("ship=0.4", '"a,b=0.5"'))],
)
def test_scores_become_options(conf: Any, texts: tuple[str, ...]) -> None:
    assert keywords.conf_texts(conf) == texts


@pytest.mark.parametrize(
    ("classes", "texts"),
    [(None, ()), ("ship", ("ship",)), (["ship", 'a, "b"'], ("ship", '"a, ""b"""'))],
)
def test_classes_become_options(classes: Any, texts: tuple[str, ...]) -> None:
    assert keywords.class_texts(classes) == texts
    message = MergingOptions(classes=texts).message()
    expected = [classes] if isinstance(classes, str) else classes
    assert classes is None or message["postProcessing"][0]["algorithm"]["classes"] == expected


@pytest.mark.parametrize(
    "roi",
    [
        SQUARE.wkt,
        SQUARE,
        geopandas.GeoDataFrame(geometry=[SQUARE], crs="EPSG:4326"),
        geopandas.GeoSeries([SQUARE], crs="EPSG:4326").to_crs("EPSG:3857"),
    ],
)
def test_a_region_of_interest_may_be_an_object(roi: Any) -> None:
    text = keywords.roi_text(roi)
    assert text is not None
    assert shapely.from_wkt(text).equals_exact(SQUARE, 1e-9) or shapely.from_wkt(text) == SQUARE


def test_a_region_of_interest_needs_a_reference_system() -> None:
    with pytest.raises(RequestError, match="roi: the table has no crs"):
        keywords.roi_text(geopandas.GeoSeries([SQUARE]))


def test_an_error_names_keywords_and_leaves_a_command_as_it_is() -> None:
    command = "swath models describe a b.onnx --out a b.json"
    with pytest.raises(RequestError) as raised, keywords.naming_keywords():
        raise RequestError(f"imageProcessorTileSize: too large for --out: {command}")
    assert str(raised.value) == f"tile_size: too large for out: {command}"


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", ">u2", "int16", "int64", "float32", "float64", "complex64"]
)
def test_an_array_is_written_as_it_is(dtype: str, tmp_path: Path) -> None:
    array = np.arange(2 * 40 * 30).reshape(2, 40, 30).astype(dtype)
    place = Affine(2, 0, 500_000, 0, -2, 5_400_000)
    write_array(tmp_path / "a.tif", array[:, :, ::-1], transform=place, crs=32633)
    with rasterio.open(tmp_path / "a.tif") as read:
        assert (read.read() == array[:, :, ::-1]).all()
        assert (read.transform, read.crs.to_epsg()) == (place, 32633)
        assert read.nodata is None


def test_an_array_of_two_dimensions_is_one_band(tmp_path: Path) -> None:
    array = np.ones((700, 600), np.float32)
    write_array(tmp_path / "a.tif", array, nodata=float("nan"))
    with rasterio.open(tmp_path / "a.tif") as read:
        assert read.shape == (700, 600)
        assert np.isnan(read.nodata)
        assert read.crs is None


def test_masked_pixels_become_nodata(tmp_path: Path) -> None:
    array = np.ma.masked_equal(np.array([[[1, 2], [3, 2]]], np.uint8), 2)
    write_array(tmp_path / "a.tif", array, nodata=9)
    with rasterio.open(tmp_path / "a.tif") as read:
        assert read.read(1).tolist() == [[1, 9], [3, 9]]
    with pytest.raises(ImageError, match="masked; give the value of its masked pixels as nodata"):
        write_array(tmp_path / "b.tif", array)


@pytest.mark.parametrize("nodata", [-1, 256, 0.5, float("nan")])
def test_masked_pixels_need_a_value_of_their_type(tmp_path: Path, nodata: float) -> None:
    array = np.ma.masked_equal(np.array([[1, 2]], np.uint8), 2)
    with pytest.raises(ImageError, match="is not a value of a masked array of type uint8"):
        write_array(tmp_path / "a.tif", array, nodata=nodata)


@pytest.mark.parametrize(
    ("array", "options", "reason"),
    [
        (np.zeros((2, 3, 4, 5)), {}, "shape"),
        (np.zeros((3, 0, 5)), {}, "shape"),
        (np.zeros((400, 600, 3)), {}, r"seems to be \(height, width, bands\)"),
        (np.zeros((9, 9), bool), {}, "type bool cannot be read.*astype\\('uint8'\\)"),
        (np.zeros((9, 9), np.float16), {}, "astype\\('float32'\\)"),
        (np.zeros((9, 9), np.uint8), {"nodata": 300}, "300"),
        (np.zeros((9, 9)), {"crs": "EPSG:4326"}, "crs: it needs transform too"),
        (np.zeros((9, 9)), {"transform": Affine.identity()}, "transform: it needs crs too"),
        (np.zeros((9, 9)), {"transform": (1, 0, 0), "crs": 4326}, "is not an affine.Affine"),
        (np.zeros((9, 9)), {"transform": Affine.scale(2), "crs": "here"}, "crs: 'here'"),
    ],
)
def test_an_array_that_is_no_image_is_refused(
    array: NDArray[Any], options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(ImageError, match=reason):
        write_array(tmp_path / "a.tif", array, **options)
