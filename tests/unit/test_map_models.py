"""Models that answer with pixels: their descriptions, and real ONNX files that they are for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.errors import RequestError, UnsupportedTaskError
from tasks.grid.tiles import Tile
from tasks.imagery import TilePixels, open_image
from tasks.inference.description.load import load_description
from tasks.inference.model_defaults import resolve
from tasks.inference.onnx import open_onnx
from tasks.job import work_image
from tasks.reporting.status import JobStatus
from tasks.request import Request
from tasks.settings import settings
from tests import model_answers
from tests.onnx_models import describe, describe_map, pixelwise, write_json

BRIGHT = [[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]  # of two classes, by the first band
RGB = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
HEIGHT = [[0.5, 0.25, 0.25]]
SIGMOID = {"activation": "sigmoid"}


def pixels(height: int = 64, width: int = 64) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 255, (3, height, width), np.uint8)


@pytest.fixture(autouse=True)
def roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SWATH_LOCAL_ROOTS", json.dumps([str(tmp_path)]))
    monkeypatch.setenv("SWATH_WORK_URI", str(tmp_path / "work"))
    settings.cache_clear()
    yield
    settings.cache_clear()


def request(model: Path, scene: Path, tile_size: int | None = 64, **fields: Any) -> Request:
    sized = {} if tile_size is None else {"imageProcessorTileSize": tile_size}
    return Request.model_validate(
        {
            "jobId": "map",
            "imageUrls": [str(scene)],
            "outputs": [{"type": "File", "path": str(model.parent / "out")}],
            "imageProcessor": {"name": str(model), "type": "ONNX"},
            "imageProcessorTileOverlap": 0,
            **sized,
            **fields,
        }
    )


def saved(folder: Path, bands: NDArray[Any]) -> Path:
    path = folder / "scene.tif"
    shape = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    place = {"crs": "EPSG:32618", "transform": rasterio.Affine(1, 0, 5e5, 0, -1, 4e6)}
    with rasterio.open(path, "w", driver="GTiff", dtype=bands.dtype, **shape, **place) as dataset:
        dataset.write(bands)
    return path


def answered(model: Path, description: Mapping[str, Any], *tiles: NDArray[Any]) -> Any:
    """The bands of the first tile, of a call with all tiles."""
    write_json(model.with_suffix(".json"), description)
    scene = open_image(str(saved(model.parent, tiles[0])), roots=[model.parent])
    height, width = tiles[0].shape[1:]
    endpoint = open_onnx(
        request(model, Path(scene.url), max(width, height)), scene, [model.parent], 60
    )
    placed = [TilePixels(Tile(0, Window(0, 0, width, height)), tile, None) for tile in tiles]
    found = model_answers.pixels(endpoint.ask([endpoint.prepare(tile) for tile in placed]))
    endpoint.close()
    assert len(found) == len(tiles)
    return found[0].bands


def refusal(folder: Path, document: object) -> str:
    path = write_json(folder / "map.json", document)
    with pytest.raises(RequestError) as raised:
        load_description(str(path), [folder], None)
    return str(raised.value)


class TestDescriptions:
    @pytest.mark.parametrize("task", ["semantic-segmentation", "segmentation"])
    def test_segmentation_alone_means_logits(self, tmp_path: Path, task: str) -> None:
        path = write_json(tmp_path / "map.json", describe_map(None, task=task))
        head = load_description(str(path), [tmp_path], None).properties.raster
        assert head is not None
        assert (head.values, head.activation) == ("logits", "softmax")

    @pytest.mark.parametrize("raster", [None, {"unit": "m", "names": ["height"]}])
    def test_regression_alone_means_values(
        self, tmp_path: Path, raster: dict[str, Any] | None
    ) -> None:
        document = describe_map(raster, task="regression", classes=())
        path = write_json(tmp_path / "map.json", document)
        head = load_description(str(path), [tmp_path], None).properties.raster
        assert head is not None
        assert head.values == "values"

    @pytest.mark.parametrize("task", ["panoptic-segmentation", "super-resolution", "segmentatoin"])
    def test_another_task_is_refused_by_its_name(self, tmp_path: Path, task: str) -> None:
        path = write_json(tmp_path / "map.json", describe_map(None, task=task))
        with pytest.raises(
            UnsupportedTaskError, match=f"mlm:tasks: is {task}, .*semantic-segmentation, .*; serve"
        ):
            load_description(str(path), [tmp_path], None)

    def test_a_task_is_not_contradicted(self, tmp_path: Path) -> None:
        detector = describe({"type": "yolox"}) | {"mlm:tasks": ["semantic-segmentation"]}
        assert (
            "swath:detector: is for models that find objects, and mlm:tasks is "
            "semantic-segmentation; give detection, object-detection there, or swath:raster in its "
            "place"
        ) in refusal(tmp_path, detector)
        masks = "a swath:detector with masks (yolov8-seg, mask-rcnn)"
        segmentation = "segmentation, semantic-segmentation"
        for values, task, there, other in (
            ("logits", "object-detection", segmentation, "swath:detector in its place"),
            ("logits", "instance-segmentation", segmentation, masks),
            ("logits", "classification", segmentation, "swath:tile in its place"),
            ("logits", "regression", segmentation, "other values"),
            ("values", "semantic-segmentation", "regression", "other values"),
        ):
            assert (
                f"swath:raster.values: is {values}, and mlm:tasks is {task}; give {there} there, "
                f"or {other}"
            ) in refusal(tmp_path, describe_map({"values": values}, task=task))

    def test_a_number_for_a_whole_tile_is_no_map(self, tmp_path: Path) -> None:
        document = describe_map(None, task="regression") | {"swath:tile": {}}
        assert "swath:tile.values: is logits, and mlm:tasks is regression; give " in refusal(
            tmp_path, document
        )

    def test_two_tasks_need_a_word_on_which_is_run(self, tmp_path: Path) -> None:
        document = describe_map(None) | {"mlm:tasks": ["object-detection", "segmentation"]}
        assert "swath:detector: missing; give it" in refusal(tmp_path, document)
        path = write_json(tmp_path / "map.json", document | {"swath:raster": {}})
        assert load_description(str(path), [tmp_path], None).properties.raster is not None
        both = document | {"swath:raster": {}, "swath:detector": {"type": "yolox"}}
        assert "swath:detector: give only one of it" in refusal(tmp_path, both)

    @pytest.mark.parametrize(
        ("raster", "words", "reason"),
        [
            ({}, {"classes": ()}, "mlm:output: names no classes; list them"),
            ({}, {"classes": ("water",)}, "softmax over one class is 1 everywhere; give sigmoid"),
            (SIGMOID, {}, "has the value 0, which with sigmoid is that of a pixel without a class"),
            ({"values": "scores"}, {}, "swath:raster.values: 'scores' is not one of"),
            ({"thresh": 1}, {}, "swath:raster.thresh: unknown field; did you mean threshold?"),
        ],
        ids=str,
    )
    def test_fields_are_validated(
        self, tmp_path: Path, raster: dict[str, Any], words: dict[str, Any], reason: str
    ) -> None:
        assert reason in refusal(tmp_path, describe_map(raster, **words))

    def test_a_class_has_the_colour_of_the_description(self, tmp_path: Path) -> None:
        document = describe_map(None)
        document["mlm:output"][0]["classification:classes"][1]["color_hint"] = "00FF80"
        write_json(tmp_path / "m.json", document)
        model = pixelwise(tmp_path / "m.onnx", BRIGHT)
        output = resolve(request(model, tmp_path / "scene.tif")).raster_output
        assert output is not None
        assert [one.colour for one in output.classes] == [None, "#00ff80"]


class TestOutputs:
    @pytest.mark.parametrize("last", [False, True])
    @pytest.mark.parametrize("dtype", ["float32", "float16"])
    def test_bands_may_come_first_or_last(self, tmp_path: Path, last: bool, dtype: str) -> None:
        model = pixelwise(tmp_path / "m.onnx", BRIGHT, dtype=dtype, last=last)
        found = answered(model, describe_map(None, data_type=dtype), pixels())
        first = pixels()[0].astype(np.float32)
        np.testing.assert_allclose(found, [-first, first])

    @pytest.mark.parametrize("keepdims", [False, True])
    @pytest.mark.parametrize(
        ("shape", "tiles"),
        [
            ((1, 3, 64, 64), 1),
            ((2, 3, 64, 64), 1),
            ((2, 3, 64, 64), 2),
            (("n", 3, 64, 64), 2),
            (("n", 3, "h", "w"), 1),
        ],
        ids=str,
    )
    def test_numbers_of_classes_may_lack_a_dimension(
        self, tmp_path: Path, shape: tuple[int | str, ...], keepdims: bool, tiles: int
    ) -> None:
        model = pixelwise(tmp_path / "m.onnx", RGB, shape=shape, argmax=True, keepdims=keepdims)
        declared = [size if isinstance(size, int) else -1 for size in shape]
        classes = {"values": "classes"}
        document = describe_map(classes, classes=("r", "g", "b"), shape=declared)
        given = [np.roll(pixels(), number, axis=2) for number in range(tiles)]
        found = answered(model, document, *given)
        np.testing.assert_array_equal(found, pixels().argmax(axis=0)[np.newaxis])

    @pytest.mark.parametrize("keepdims", [False, True])
    def test_a_binary_model_has_one_band(self, tmp_path: Path, keepdims: bool) -> None:
        model = pixelwise(tmp_path / "m.onnx", RGB[:1], keepdims=keepdims)
        document = describe_map(SIGMOID, classes=("water",), first_class=1)
        np.testing.assert_array_equal(answered(model, document, pixels()), pixels()[:1])

    @pytest.mark.parametrize("stride", [2, 4])
    def test_a_smaller_output_is_enlarged(self, tmp_path: Path, stride: int) -> None:
        steps = np.arange(0, 64, stride)
        bands = np.zeros((3, 64, 64), np.uint8)
        bands[0] = np.arange(64)  # of which the model sees each first of `stride` columns
        model = pixelwise(tmp_path / "m.onnx", BRIGHT, stride=stride)
        found = answered(model, describe_map(None), bands)
        centres = (np.arange(64) + 0.5) / stride - 0.5
        expected = np.interp(centres, np.arange(len(steps)), steps)
        np.testing.assert_allclose(found[1], np.tile(expected, (64, 1)), atol=1e-4)
        model = pixelwise(tmp_path / "n.onnx", BRIGHT, stride=stride, argmax=True)
        found = answered(model, describe_map({"values": "classes"}), bands)
        np.testing.assert_array_equal(found[0], np.repeat(steps > 0, stride) * np.ones((64, 1)))

    def test_an_input_of_any_size_is_padded_to_the_stride(self, tmp_path: Path) -> None:
        model = pixelwise(tmp_path / "m.onnx", HEIGHT, shape=("n", 3, "h", "w"))
        document = describe_map(
            {"strides": [32]}, task="regression", classes=(), shape=(-1, 3, -1, -1)
        )
        found = answered(model, document, pixels(50, 70))
        np.testing.assert_allclose(found[0], np.tensordot(HEIGHT[0], pixels(50, 70), 1), atol=1e-4)

    @pytest.mark.parametrize(
        ("size", "words", "letterbox"),
        [
            ((128, 128), {"resize_type": "interpolation-nearest"}, None),
            ((64, 128), {"resize_type": "interpolation-nearest"}, "centre"),
            ((128, 64), {"resize_type": "interpolation-nearest"}, "corner"),
            ((40, 50), {"resize_type": "pad"}, "centre"),
        ],
        ids=str,
    )
    def test_a_resized_tile_has_pixels_of_its_own(
        self,
        tmp_path: Path,
        size: tuple[int, int],
        words: dict[str, Any],
        letterbox: str | None,
    ) -> None:
        model = pixelwise(tmp_path / "m.onnx", RGB, argmax=True)
        raster = {"values": "classes"} | ({"letterbox": letterbox} if letterbox else {})
        bands = np.kron(pixels(size[0] // 2, size[1] // 2), np.ones((1, 2, 2), np.uint8))
        found = answered(model, describe_map(raster, classes="rgb", **words), bands)
        np.testing.assert_array_equal(found[0], bands.argmax(axis=0))

    def test_the_map_is_found_among_several_outputs(self, tmp_path: Path) -> None:
        model = pixelwise(tmp_path / "m.onnx", BRIGHT, further=True)
        document = describe_map(None)
        features = {"name": "features", "tasks": ["similarity-search"]}
        document["mlm:output"].insert(0, features)
        np.testing.assert_array_equal(answered(model, document, pixels())[1], pixels()[0])
        del document["mlm:output"][1]["name"]
        with pytest.raises(RequestError, match=r"mlm:output.*features, map; "):
            answered(model, document, pixels())

    @pytest.mark.parametrize(
        ("options", "raster", "words", "reason"),
        [
            ({}, {}, {"classes": "abc"}, r"must have 3 bands.*list a class for each band"),
            ({}, {"values": "classes"}, {}, "must have 1 band, .*give logits or probabilities"),
            ({"softmax": True}, {}, {}, "adds up to 1 at each pixel.*values probabilities"),
            ({"argmax": True}, {}, {}, "give values classes if it holds their numbers"),
            ({}, {}, {"task": "regression"}, "give the name of each band in swath:raster.names"),
        ],
        ids=str,
    )
    def test_a_model_that_does_not_fit_is_refused_before_a_tile_is_read(
        self,
        tmp_path: Path,
        options: dict[str, Any],
        raster: dict[str, Any],
        words: dict[str, Any],
        reason: str,
    ) -> None:
        model = pixelwise(tmp_path / "m.onnx", BRIGHT, **options)
        with pytest.raises(RequestError, match=reason):
            answered(model, describe_map(raster, **words), pixels())

    def test_probabilities_are_taken_as_they_are(self, tmp_path: Path) -> None:
        model = pixelwise(tmp_path / "m.onnx", BRIGHT, softmax=True)
        found = answered(model, describe_map({"values": "probabilities"}), pixels() // 64)
        np.testing.assert_allclose(found[1], 1 / (1 + np.exp(-2.0 * (pixels()[0] // 64))), 1e-5)

    def test_bands_are_found_by_their_descriptions(self, tmp_path: Path) -> None:
        document = describe_map(None, task="regression", classes=())
        document["mlm:input"][0]["bands"] = ["nir", "swir16", "Blue"]
        write_json(tmp_path / "m.json", document)
        scene = saved(tmp_path, np.concatenate([pixels(), pixels()[:1]]))
        with rasterio.open(scene, "r+") as dataset:
            dataset.descriptions = ["blue", None, "nir", "swir16"]
        image = open_image(str(scene), roots=[tmp_path])
        description = load_description(str(tmp_path / "m.json"), [tmp_path], None)
        assert description.for_image(image, 64).bands == (2, 3, 0)
        document["mlm:input"][0]["bands"] = ["nir", "swir16", "swir22"]
        write_json(tmp_path / "m.json", document)
        description = load_description(str(tmp_path / "m.json"), [tmp_path], None)
        with pytest.raises(RequestError, match=r"no band 'swir22' \(it has blue, green, nir, sw"):
            description.for_image(image, 64)

    def test_a_request_does_not_contradict_the_description(self, tmp_path: Path) -> None:
        write_json(tmp_path / "m.json", describe_map(None))
        model = pixelwise(tmp_path / "m.onnx", BRIGHT)
        asked = request(model, tmp_path / "scene.tif", rasterOutput={"values": "classes"})
        with pytest.raises(
            RequestError, match=r"rasterOutput: describes 1 band, .* with 2 \(logits"
        ):
            resolve(asked)

    def test_one_class_that_every_pixel_has_is_refused(self, tmp_path: Path) -> None:
        one: dict[str, Any] = {"values": "logits", "classes": [{"value": 1, "name": "water"}]}
        server = {"name": "http://127.0.0.1/water", "type": "HTTP_ENDPOINT"}
        fields: dict[str, Any] = {"imageProcessor": server, "rasterOutput": one}
        scene = tmp_path / "scene.tif"
        with pytest.raises(RequestError, match=r"rasterOutput\.classes: .* activation sigmoid"):
            resolve(request(scene, scene, **fields))
        one["activation"] = "sigmoid"
        resolve(request(scene, scene, **fields))

    def test_a_model_that_cuts_borders_off_is_refused(self, tmp_path: Path) -> None:
        model = pixelwise(tmp_path / "m.onnx", BRIGHT, shape=("n", 3, "h", "w"), crop=4)
        with pytest.raises(RequestError, match="56 × 56 pixels for an input of 64 × 64"):
            answered(model, describe_map(None, shape=(-1, 3, -1, -1)), pixels())


class TestJobs:
    @pytest.mark.parametrize("shape", [("n", 3, 64, 64), ("n", 3, "h", "w")], ids=str)
    def test_an_image_smaller_than_a_tile(
        self, tmp_path: Path, shape: tuple[int | str, ...]
    ) -> None:
        model = pixelwise(tmp_path / "m.onnx", RGB, shape=shape)
        declared = [size if isinstance(size, int) else -1 for size in shape]
        write_json(tmp_path / "m.json", describe_map(None, classes="rgb", shape=declared))
        bands = pixels(40, 90)
        scene = saved(tmp_path, bands)
        asked = request(model, scene, None if shape[2] == 64 else 64)
        assert work_image(asked, str(scene)).status is JobStatus.SUCCESS
        with rasterio.open(tmp_path / "out" / "scene.tif.tif") as dataset:
            np.testing.assert_array_equal(dataset.read(1), bands.argmax(axis=0))
            assert dataset.tags(1)["CLASS_2"] == "b"

    def test_values_have_their_names(self, tmp_path: Path) -> None:
        model = pixelwise(tmp_path / "m.onnx", HEIGHT)
        raster = {"names": ["height"], "unit": "m"}
        write_json(tmp_path / "m.json", describe_map(raster, task="regression", classes=()))
        scene = saved(tmp_path, pixels(64, 128))
        assert work_image(request(model, scene), str(scene)).status is JobStatus.SUCCESS
        with rasterio.open(tmp_path / "out" / "scene.tif.tif") as dataset:
            np.testing.assert_allclose(
                dataset.read(1), np.tensordot(HEIGHT[0], pixels(64, 128), 1), atol=1e-4
            )
            assert (dataset.descriptions, dataset.units) == (("height",), ("m",))
