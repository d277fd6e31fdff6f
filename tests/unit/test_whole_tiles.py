"""Models that answer about each tile as a whole: its class, or an embedding."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.transform import from_origin
from scipy.special import expit, softmax

import swath
from tasks.errors import RequestError
from tasks.grid.tiles import Grid
from tasks.inference.description.load import load_description
from tasks.inference.model_defaults import resolve
from tasks.job import work_image
from tasks.reporting.status import JobStatus
from tasks.request import AlgorithmType, Request
from tasks.settings import settings
from tests.onnx_models import of_ultralytics, pooled, write_json

SIDE, TILE, OVERLAP = 120, 32, 10
GRID = Grid(SIDE, SIDE, TILE, OVERLAP)
NAMES = ["harbour", "forest", "town"]
WEIGHTS = [[0.03, 0.0, -0.01], [0.0, 0.02, 0.0], [-0.01, 0.0, 0.02]]
PIXELS = np.random.default_rng(5).integers(1, 255, (3, SIDE, SIDE)).astype(np.uint8)


def means(tiles: NDArray[Any]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = tiles.mean(axis=(2, 3), dtype=np.float64)
    return found


def logits(tiles: NDArray[Any]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = means(tiles) @ np.array(WEIGHTS).T
    return found


def all_tiles() -> NDArray[np.uint8]:
    windows = GRID.windows(np.arange(len(GRID))).astype(int)
    return np.stack([PIXELS[:, top:bottom, left:right] for left, top, right, bottom in windows])


@pytest.fixture(autouse=True)
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(tmp_path)]))
    monkeypatch.setenv("SWATH_WORK_URI", str(tmp_path / "work"))
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    path = tmp_path / "scene.tif"
    place = {"crs": "EPSG:32631", "transform": from_origin(5e5, 5e6, 10, 10)}
    with rasterio.open(
        path, "w", driver="GTiff", width=SIDE, height=SIDE, count=3, dtype="uint8", **place
    ) as dataset:
        dataset.write(PIXELS)
        dataset.colorinterp = [
            rasterio.enums.ColorInterp.red,
            rasterio.enums.ColorInterp.green,
            rasterio.enums.ColorInterp.blue,
        ]
    return path


def run(out: Path, model: Any, image: Any = PIXELS, **options: Any) -> swath.Result:
    words = {"tile_size": TILE, "overlap": OVERLAP, "progress": False, "fresh": True}
    return swath.run(image, model=model, out=out, **words | options)


def features(result: swath.Result) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(result.files["pixels.geojson"].read_text())["features"]
    return found


class TestClasses:
    @pytest.mark.parametrize("merge", [None, *map(str, AlgorithmType)])
    def test_every_tile_is_one_feature_whatever_the_merge(self, tmp_path: Path, merge: Any) -> None:
        same = lambda tiles: np.tile([0.1, 0.9], (len(tiles), 1))
        result = run(tmp_path, same, tile_output="probabilities", merge=merge, iou=0.1)
        assert len(result.features) == len(GRID) == 25
        found = [
            shapely.geometry.shape(each["properties"]["imageGeometry"]) for each in features(result)
        ]
        windows = shapely.box(*GRID.windows(np.arange(len(GRID))).T)
        assert shapely.equals(found, windows).all()
        assert set(result.features["class"]) == {"1"}
        assert set(result.features["score"]) == {0.9}

    @pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
    @pytest.mark.parametrize("every", [False, True])
    def test_logits_become_scores(self, tmp_path: Path, activation: str, every: bool) -> None:
        output = {"values": "logits", "activation": activation, "allScores": every}
        result = run(tmp_path, logits, tile_output=output, class_names=NAMES)
        values = logits(all_tiles())
        wanted = softmax(values, axis=1) if activation == "softmax" else expit(values)
        for each, scores in zip(features(result), wanted, strict=True):
            listed = each["properties"]["featureClasses"]
            order = np.argsort(-scores)[: 3 if every else 1]
            assert [one["iri"] for one in listed] == [NAMES[at] for at in order]
            assert [one["score"] for one in listed] == pytest.approx(scores[order])

    def test_classes_and_scores_are_filtered(self, tmp_path: Path) -> None:
        scores = softmax(logits(all_tiles()), axis=1)
        forest, least = scores.argmax(axis=1) == 1, float(np.median(scores.max(axis=1)))
        only = {"classes": "forest", "conf": least}
        result = run(tmp_path, logits, tile_output="logits", class_names=NAMES, **only)
        assert len(result.features) == (forest & (scores[:, 1] >= least)).sum()
        assert 0 < len(result.features) < forest.sum()

    def test_a_tile_partly_in_the_region_of_interest_is_a_feature(self, scene: Path) -> None:
        area = geopandas.GeoSeries([shapely.box(5e5, 5e6 - 50, 5e5 + 50, 5e6)], crs="EPSG:32631")
        result = run(
            scene.parent / "out",
            logits,
            str(scene),
            tile_output="logits",
            roi=area.to_frame("geometry"),
        )
        assert len(result.features) == 1

    def test_a_feature_without_a_place_is_of_the_tile(self, tmp_path: Path) -> None:
        one = {"type": "Feature", "properties": {"featureClasses": [{"iri": "a", "score": 1}]}}
        answer = {"type": "FeatureCollection", "features": [one]}
        result = run(tmp_path, lambda tiles: [answer] * len(tiles), tile_output="probabilities")
        assert len(result.features) == 25

    def test_an_answer_of_several_features_fails_its_tile(self, tmp_path: Path) -> None:
        one = {"type": "Feature", "properties": {"featureClasses": [{"iri": "a", "score": 1}]}}
        answer = {"type": "FeatureCollection", "features": [one, one]}
        with pytest.raises(swath.SwathError, match="2 features, and by tileOutput there is one"):
            run(tmp_path, lambda tiles: [answer] * len(tiles), tile_output="probabilities")

    @pytest.mark.parametrize(
        ("answer", "output", "problem"),
        [
            ([0.5, 2.0], "probabilities", "from 0 to 2, which are no probabilities"),
            ([0.5, np.nan], "logits", "NaN or infinite"),
            ([[0.5]], "logits", "one finite number for each class"),
            ([0.5, 0.5], {"values": "logits", "classes": ["a"]}, "has 2 numbers, and .* 1 names"),
        ],
    )
    def test_an_answer_that_cannot_be_read_fails_its_tile(
        self, tmp_path: Path, answer: list[Any], output: Any, problem: str
    ) -> None:
        with pytest.raises(swath.SwathError, match=problem):
            run(tmp_path, lambda tiles: [answer] * len(tiles), tile_output=output)


class TestEmbeddings:
    def test_they_are_a_column_of_a_fixed_size(self, tmp_path: Path) -> None:
        model = lambda tiles: means(tiles) / 3
        result = run(tmp_path, model, tile_output="embedding:3", merge="NMS", iou=0.1)
        table = by_tile(pq.read_table(result.files["parquet"]))
        assert str(table.schema.field("embedding").type) == "fixed_size_list<element: float>[3]"
        wanted = (means(all_tiles()) / 3).astype(np.float32)
        column = table["embedding"].combine_chunks()
        np.testing.assert_array_equal(column.flatten().to_numpy().reshape(-1, 3), wanted)
        assert set(table["properties"].to_pylist()) == {"{}"}
        written = [each["properties"]["embedding"] for each in features(result)]
        np.testing.assert_array_equal(np.array(written, np.float32), wanted)

    def test_one_of_another_length_is_rejected(self, tmp_path: Path) -> None:
        lengths = iter([3] * 20 + [4] * 5)
        model = lambda tiles: [np.ones(next(lengths)) for _ in tiles]
        result = run(tmp_path, model, tile_output="embedding:3", batch_size=1)
        assert len(result.features) == 20
        assert result.summary.rejected == 5
        assert "not a list of 3 finite numbers" in result.summary.rejections[0][0]


def describe(task: str, tile: Mapping[str, Any] | None, classes: list[str]) -> dict[str, Any]:
    structure = {"shape": [-1, 3, TILE, TILE], "dim_order": ["batch", "bands", "height", "width"]}
    named = [{"value": value, "name": name} for value, name in enumerate(classes)]
    return {
        "mlm:name": "of the tests",
        "mlm:tasks": [task],
        "mlm:input": [{"name": "images", "input": structure | {"data_type": "float32"}}],
        "mlm:output": [{"name": "numbers", "tasks": [task], "classification:classes": named}],
    } | ({} if tile is None else {"swath:tile": dict(tile)})


def asked(scene: Path, model: Path, **fields: Any) -> Request:
    return Request.model_validate(
        {
            "jobId": "whole",
            "imageUrls": [str(scene)],
            "outputs": [{"type": "File", "path": str(scene.parent / "out")}],
            "imageProcessor": {"name": str(model), "type": "ONNX"},
            "imageProcessorTileOverlap": OVERLAP,
            **fields,
        }
    )


def published(scene: Path) -> Any:
    return by_tile(pq.read_table(scene.parent / "out" / "scene.tif.parquet"))


def by_tile(features: Any) -> Any:
    """The features of whole tiles in the order of the tiles."""
    return features.sort_by([(f"image_{side}", "ascending") for side in ("y_min", "x_min")])


class TestOnnx:
    @pytest.mark.parametrize("task", ["classification", "scene-classification"])
    @pytest.mark.parametrize("flat", [True, False])
    def test_a_classifier_answers_as_its_arithmetic(
        self, scene: Path, tmp_path: Path, task: str, flat: bool
    ) -> None:
        model = pooled(tmp_path / "model.onnx", WEIGHTS, flat=flat)
        write_json(tmp_path / "model.json", describe(task, None, NAMES))
        assert work_image(asked(scene, model), str(scene)).status is JobStatus.SUCCESS
        wanted = softmax(logits(all_tiles()), axis=1)
        table = published(scene)
        assert table["class"].to_pylist() == [NAMES[at] for at in wanted.argmax(axis=1)]
        np.testing.assert_allclose(table["score"].to_numpy(), wanted.max(axis=1), rtol=1e-5)

    def test_a_vector_is_published_as_it_is(self, scene: Path, tmp_path: Path) -> None:
        model = pooled(tmp_path / "model.onnx", WEIGHTS)
        tile = {"size": 3}
        write_json(tmp_path / "model.json", describe("similarity-search", tile, []))
        request = asked(scene, model, featureProperties=[{"embedding": "mine", "campaign": "june"}])
        assert work_image(request, str(scene)).status is JobStatus.SUCCESS
        assert set(published(scene)["properties"].to_pylist()) == {'{"campaign":"june"}'}
        column = published(scene)["embedding"].combine_chunks().flatten().to_numpy()
        np.testing.assert_allclose(column.reshape(-1, 3), logits(all_tiles()), rtol=1e-4)

    def test_an_export_of_ultralytics_describes_itself(self, scene: Path, tmp_path: Path) -> None:
        metadata = of_ultralytics(task="classify", imgsz=[TILE, TILE], names=dict(enumerate(NAMES)))
        weights = (np.array(WEIGHTS) * 255).tolist()
        model = pooled(tmp_path / "m.onnx", weights, softmax=True, metadata=metadata)
        assert work_image(asked(scene, model), str(scene)).status is JobStatus.SUCCESS
        wanted = softmax(logits(all_tiles()), axis=1)
        table = published(scene)
        assert table["class"].to_pylist() == [NAMES[at] for at in wanted.argmax(axis=1)]
        np.testing.assert_allclose(table["score"].to_numpy(), wanted.max(axis=1), rtol=1e-4)

    def test_what_a_request_says_itself_counts(self, scene: Path, tmp_path: Path) -> None:
        model = pooled(tmp_path / "model.onnx", WEIGHTS)
        write_json(tmp_path / "model.json", describe("classification", None, NAMES))
        output = resolve(asked(scene, model, tileOutput={"allScores": True})).tile_output
        assert output is not None
        assert (output.values, output.classes, output.all_scores) == ("logits", tuple(NAMES), True)

    @pytest.mark.parametrize(
        ("task", "tile", "softened", "problem"),
        [
            ("classification", None, True, "give swath:tile.values probabilities"),
            ("classification", {"values": "probabilities"}, False, "has the shape"),
            ("similarity-search", {"size": 4}, False, "rows of 4 numbers; correct swath:tile.size"),
        ],
    )
    def test_a_model_that_does_not_fit_is_refused(
        self, scene: Path, task: str, tile: Any, softened: bool, problem: str
    ) -> None:
        tmp_path = scene.parent
        model = pooled(tmp_path / "model.onnx", WEIGHTS, softmax=softened)
        embedding = task == "similarity-search"
        names = [] if embedding else NAMES if softened else NAMES[:2]
        write_json(tmp_path / "model.json", describe(task, tile, names))
        with pytest.raises(RequestError, match=problem):
            work_image(asked(scene, model), str(scene))

    @pytest.mark.parametrize(
        ("task", "tile", "problem"),
        [
            ("similarity-search", None, "swath:tile.size: is missing"),
            ("classification", {"size": 3}, "swath:tile.size: is of an embedding"),
            (
                "object-detection",
                {},
                "swath:tile.values: is logits, and mlm:tasks is object-detect",
            ),
        ],
    )
    def test_a_description_that_contradicts_itself_is_refused(
        self, tmp_path: Path, task: str, tile: Any, problem: str
    ) -> None:
        path = write_json(tmp_path / "model.json", describe(task, tile, NAMES))
        with pytest.raises(RequestError, match=problem):
            load_description(str(path), [tmp_path], None)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"tileOutput": {"values": "embedding"}}, "size: is missing"),
        ({"tileOutput": {"size": 3}}, "size: is of an embedding"),
        ({"tileOutput": {"values": "embedding", "size": 3, "classes": ["a"]}}, "classes: is of cl"),
        ({"tileOutput": {"classes": ["a", "a"]}}, "the same name twice"),
        (
            {"tileOutput": {"allScores": True}, "rasterOutput": {"values": "values"}},
            "give one of them",
        ),
    ],
)
def test_a_request_that_contradicts_itself_is_refused(
    tmp_path: Path, fields: dict[str, Any], problem: str
) -> None:
    message = asked(tmp_path / "a.tif", tmp_path / "m.onnx").model_dump(
        mode="json", exclude_unset=True
    )
    with pytest.raises(RequestError, match=problem):
        Request.parse(json.dumps(message | fields))


@pytest.mark.parametrize(
    "output",
    [
        {"values": "embedding", "size": 3},
        {"values": "logits", "classes": NAMES, "activation": "sigmoid", "allScores": True},
    ],
)
def test_a_request_that_is_written_whole_is_the_same(tmp_path: Path, output: Any) -> None:
    request = asked(tmp_path / "a.tif", tmp_path / "m.onnx", tileOutput=output)
    assert Request.parse(json.dumps(request.model_dump(mode="json"))) == request


def test_a_model_that_finds_objects_has_no_tile_output(scene: Path, tmp_path: Path) -> None:
    detector = describe("object-detection", None, NAMES) | {"swath:detector": {"type": "yolox"}}
    model = pooled(tmp_path / "model.onnx", WEIGHTS)
    write_json(tmp_path / "model.json", detector)
    with pytest.raises(RequestError, match="does not answer about whole tiles"):
        resolve(asked(scene, model, tileOutput={"allScores": True}))
