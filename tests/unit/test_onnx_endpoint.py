"""Models in this process: real ONNX files, run by onnxruntime."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from rasterio.transform import Affine
from rasterio.windows import Window

from tasks.errors import (
    AnswerError,
    EndpointTimeoutError,
    PermanentError,
    RequestError,
    TransientError,
)
from tasks.grid.tiles import Tile
from tasks.imagery import Image, TilePixels, open_image
from tasks.inference.endpoint import Boxes
from tasks.inference.onnx import OnnxEndpoint, open_onnx
from tasks.inference.onnx.external_weights import refuse_external_weights
from tasks.request import Request
from tests import model_answers
from tests.onnx_models import (
    PLANE_BOXES,
    PLANES,
    YOLOX,
    answering,
    bright_box,
    describe,
    save,
    value,
    write_json,
    yolox_nano,
)

FOUND = {
    "boxes": np.array([[8, 8, 24, 32]], np.float32),
    "labels": np.array([1]),
    "scores": np.array([0.9], np.float32),
}
TORCHVISION = {"type": "torchvision"}


def image(folder: Path, width: int = 64, height: int = 64, bands: int = 3) -> Image:
    place = {"crs": "EPSG:32618", "transform": Affine(1, 0, 5e5, 0, -1, 4e6)}
    shape = {"width": width, "height": height, "count": bands, "dtype": "uint8"}
    path = folder / f"{width}x{height}x{bands}.tif"
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as dataset:
        dataset.write(np.ones((bands, height, width), np.uint8))
    return open_image(str(path), roots=[folder])


def request(model: Path | str, tile_size: int = 64, **parameters: str) -> Request:
    return Request.model_validate(
        {
            "jobId": "a",
            "imageUrls": ["s3://bucket/a.tif"],
            "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
            "imageProcessor": {"name": str(model), "type": "ONNX"},
            "imageProcessorTileSize": tile_size,
            "imageProcessorTileOverlap": 8,
            "imageProcessorParameters": parameters,
        }
    )


def opened(
    model: Path,
    description: Mapping[str, Any],
    tile_size: int = 64,
    timeout: float = 60,
    **size: int,
) -> OnnxEndpoint:
    write_json(model.with_suffix(".json"), description)
    folder = model.parent
    return open_onnx(request(model, tile_size), image(folder, **size), [folder], timeout)


def tile(pixels: NDArray[Any]) -> TilePixels:
    return TilePixels(Tile(0, Window(0, 0, pixels.shape[2], pixels.shape[1])), pixels, None)


def asked(endpoint: OnnxEndpoint, *pixels: NDArray[Any]) -> list[Boxes]:
    return model_answers.boxes(endpoint.ask([endpoint.prepare(tile(each)) for each in pixels]))


def painted(box: tuple[int, int, int, int], width: int = 64, height: int = 64) -> NDArray[Any]:
    pixels = np.zeros((3, height, width), np.uint8)
    pixels[:, box[1] : box[3], box[0] : box[2]] = 255
    return pixels


def test_a_model_answers_with_boxes(tmp_path: Path) -> None:
    description = describe(TORCHVISION, first_class=1)
    endpoint = opened(answering(tmp_path / "m.onnx", FOUND), description)
    assert endpoint.local
    (found,) = asked(endpoint, np.zeros((3, 64, 64), np.uint8))
    assert found.boxes.tolist() == [[8, 8, 24, 32]]
    assert found.names[found.classes[0]] == "ship"
    endpoint.close()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size=st.tuples(st.integers(24, 150), st.integers(24, 150)),
    letterbox=st.sampled_from([None, "corner", "centre"]),
    order=st.sampled_from(["RGB", "BGR"]),
    data=st.data(),
)
def test_boxes_are_returned_in_pixels_of_the_tile(
    tmp_path: Path,
    size: tuple[int, int],
    letterbox: str | None,
    order: str,
    data: st.DataObject,
) -> None:
    """To half a pixel of the tile plus one of the input, as far as resizing blurs edges."""
    low = [data.draw(st.integers(0, side - 12)) for side in size]
    high = [data.draw(st.integers(near + 12, side)) for near, side in zip(low, size, strict=True)]
    box = (low[0], low[1], high[0], high[1])
    model = tmp_path / "bright.onnx"
    if not model.exists():
        bright_box(model, shape=("n", 3, 64, 64))
    detector = TORCHVISION | {"letterbox": letterbox, "channel_order": order}
    description = describe(detector, classes=("dark", "bright"), resize_type="interpolation-linear")
    endpoint = opened(model, description, tile_size=160, width=size[0], height=size[1])
    (found,) = asked(endpoint, painted(box, *size))
    input_pixel = max(size) / 64 if letterbox else np.array(size * 2) / 64
    assert (np.abs(found.boxes[0] - box) <= 0.5 + input_pixel).all(), (found.boxes, box)


@pytest.mark.parametrize(
    ("algorithm", "reason"),
    [
        ({"classes": ["Bright"]}, r"classes: 'Bright' .*m\.json; did you mean 'bright'\?"),
        ({"classes": ["dark", "ship"]}, r"classes: 'ship' .*; its classes are dark, bright\."),
        ({"classThresholds": {"brigt": 0.4}}, r"classThresholds: 'brigt' .* mean 'bright'\?"),
    ],
)
def test_a_filter_by_a_class_that_the_model_lacks_is_refused(
    tmp_path: Path, algorithm: dict[str, Any], reason: str
) -> None:
    model = bright_box(tmp_path / "m.onnx", shape=("n", 3, 64, 64))
    write_json(
        model.with_suffix(".json"),
        describe(TORCHVISION, classes=("dark", "bright"), shape=(-1, 3, 64, 64)),
    )
    filtering = {"postProcessing": [{"algorithm": algorithm}]}
    message = Request.model_validate(request(model).model_dump() | filtering)
    with pytest.raises(RequestError, match=rf"^postProcessing\[0\]\.algorithm\.{reason}"):
        open_onnx(message, image(tmp_path), [tmp_path], timeout=60)


def test_each_tile_of_a_call_gets_its_own_boxes(tmp_path: Path) -> None:
    description = describe(TORCHVISION, classes=("dark", "bright"), shape=(-1, 3, 64, 64))
    description["mlm:batch_size_suggestion"] = 3
    endpoint = opened(bright_box(tmp_path / "m.onnx", shape=("n", 3, 64, 64)), description)
    assert endpoint.tiles_per_call == 3
    boxes = [(1, 2, 30, 40), (10, 20, 64, 64), (0, 0, 5, 5)]
    found = asked(endpoint, *map(painted, boxes))
    assert [tuple(each.boxes[0]) for each in found] == boxes


def test_a_batch_of_a_fixed_size_need_not_be_full(tmp_path: Path) -> None:
    description = describe(TORCHVISION, classes=("dark", "bright"), shape=(4, 3, 64, 64))
    endpoint = opened(bright_box(tmp_path / "m.onnx", shape=(4, 3, 64, 64)), description)
    assert endpoint.tiles_per_call == 4
    boxes = [(1, 2, 30, 40), (10, 20, 64, 64)]
    found = asked(endpoint, *map(painted, boxes))
    assert [tuple(each.boxes[0]) for each in found] == boxes


def test_an_input_of_any_size_takes_tiles_without_resizing(tmp_path: Path) -> None:
    description = describe(
        TORCHVISION | {"strides": [32]}, classes=("dark", "bright"), shape=(-1, 3, -1, -1)
    )
    model = bright_box(tmp_path / "m.onnx", shape=("n", 3, "h", "w"))
    endpoint = opened(model, description, tile_size=100, width=200, height=200)
    (found,) = asked(endpoint, painted((3, 4, 90, 80), 100, 100))
    assert found.boxes.tolist() == [[3, 4, 90, 80]]


def test_threads_may_ask_at_once(tmp_path: Path) -> None:
    description = describe(TORCHVISION, classes=("dark", "bright"))
    endpoint = opened(bright_box(tmp_path / "m.onnx"), description)
    boxes = [(x, x, x + 20, x + 30) for x in range(30)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda box: asked(endpoint, painted(box))[0].boxes[0], boxes))
    assert [tuple(each) for each in found] == boxes


def test_a_second_input_gets_the_size_of_the_first(tmp_path: Path) -> None:
    """As RT-DETR's own export: boxes in fractions, multiplied by the given size."""
    nodes = [
        helper.make_node("Cast", ["orig_target_sizes"], ["size"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["size", "size"], ["scale"], axis=1),
        helper.make_node("Mul", ["shares", "scale"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "one"], ["boxes"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([[0.25, 0.5, 0.75, 1]], np.float32), "shares"),
        numpy_helper.from_array(np.array([1]), "one"),
        numpy_helper.from_array(np.array([[0]]), "labels"),
        numpy_helper.from_array(np.array([[0.9]], np.float32), "scores"),
    ]
    inputs = [
        value("images", "float32", (1, 3, 64, 128)),
        value("orig_target_sizes", "int64", (1, 2)),
    ]
    outputs = [value("boxes", "float32", (1, 1, 4))]
    outputs += [value("labels", "int64", (1, 1)), value("scores", "float32", (1, 1))]
    model = save(tmp_path / "m.onnx", helper.make_graph(nodes, "sized", inputs, outputs, constants))
    detector = {"type": "detr", "size_input": "orig_target_sizes"}
    words: dict[str, Any] = {"shape": (1, 3, 64, 128), "resize_type": "interpolation-linear"}
    endpoint = opened(model, describe(detector, **words))
    (found,) = asked(endpoint, np.zeros((3, 64, 64), np.uint8))
    assert found.boxes.tolist() == [[16, 32, 48, 64]]
    with pytest.raises(RequestError, match=r"has an input 'orig_target_sizes'.*size_input"):
        opened(model, describe({"type": "detr"}, **words))


class TestPlanes:
    @pytest.fixture
    def planes(self) -> NDArray[np.uint8]:
        for path in (YOLOX, PLANES):
            if not path.exists():
                pytest.skip(f"{path.name} is not at {path.parent}")
        with rasterio.open(PLANES) as dataset:
            pixels: NDArray[np.uint8] = dataset.read()
        return pixels

    @pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
    def test_yolox_finds_both_aircraft(self, planes: NDArray[np.uint8], tmp_path: Path) -> None:
        description = write_json(tmp_path / "nano.json", yolox_nano())
        roots = [YOLOX.parent, PLANES.parent, tmp_path]
        scene = open_image(str(PLANES), roots=roots)
        asking = request(YOLOX, 512, description=str(description))
        endpoint = open_onnx(asking, scene, roots, 60)
        (found,) = asked(endpoint, planes)
        assert [found.names[place] for place in found.classes] == ["airplane", "airplane"]
        order = np.argsort(found.boxes[:, 0])
        np.testing.assert_allclose(found.boxes[order], PLANE_BOXES, atol=8)
        assert (found.scores > 0.5).all()


class TestRefusals:
    def refusal(self, model: Path, description: Mapping[str, Any], **size: int) -> str:
        with pytest.raises(RequestError) as raised:
            opened(model, description, **size)
        assert len(str(raised.value).splitlines()) == 1
        return str(raised.value)

    def test_a_model_without_a_description_is_refused_with_the_required_fields(
        self, tmp_path: Path
    ) -> None:
        model = answering(tmp_path / "m.onnx", FOUND)
        with pytest.raises(RequestError, match=r"m.json: there is no.*write the model's"):
            open_onnx(request(model), image(tmp_path), [tmp_path], 60)

    def test_the_description_may_be_in_another_folder(self, tmp_path: Path) -> None:
        model = answering(tmp_path / "m.onnx", FOUND)
        other = write_json(tmp_path / "other.json", describe(TORCHVISION))
        asking = request(model, description=str(other))
        assert asked(
            open_onnx(asking, image(tmp_path), [tmp_path], 60), np.zeros((3, 64, 64), np.uint8)
        )

    def test_other_parameters_are_refused_by_name(self, tmp_path: Path) -> None:
        asking = request(tmp_path / "m.onnx", descripton="a.json")
        with pytest.raises(RequestError, match=r"imageProcessorParameters\.descripton"):
            open_onnx(asking, image(tmp_path), [tmp_path], 60)

    def test_a_model_outside_the_roots_is_not_read(self, tmp_path: Path) -> None:
        (tmp_path / "root").mkdir()
        model = answering(tmp_path / "m.onnx", FOUND)
        write_json(model.with_suffix(".json"), describe(TORCHVISION))
        with pytest.raises(RequestError, match=r"imageProcessor\.name: .*none of the local roots"):
            open_onnx(request(model), image(tmp_path), [tmp_path / "root"], 60)

    def test_a_missing_model_is_named(self, tmp_path: Path) -> None:
        assert "m.onnx: there is no" in self.refusal(tmp_path / "m.onnx", describe(TORCHVISION))

    def test_without_onnxruntime_the_extra_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        model = answering(tmp_path / "m.onnx", FOUND)
        refusal = self.refusal(model, describe(TORCHVISION))
        assert "swath[onnx]" in refusal
        assert "FLAVOUR=http" in refusal

    @pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x08", b"\x3a\xff\xff\xff\xff\x0f"])
    def test_a_broken_file_is_refused_with_one_line(self, tmp_path: Path, content: bytes) -> None:
        model = tmp_path / "m.onnx"
        model.write_bytes(content)
        assert "export it again" in self.refusal(model, describe(TORCHVISION))

    @settings(
        max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(cut=st.floats(0, 1, exclude_max=True))
    def test_a_truncated_file_is_refused(self, tmp_path: Path, cut: float) -> None:
        whole = answering(tmp_path / "whole.onnx", FOUND).read_bytes()
        model = tmp_path / "m.onnx"
        model.write_bytes(whole[: int(cut * len(whole))])
        self.refusal(model, describe(TORCHVISION, first_class=1))

    def test_onnxruntimes_own_format_is_refused(self, tmp_path: Path) -> None:
        """Swath cannot check its weights."""
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "m.onnx")
        options.add_session_config_entry("session.save_model_format", "ORT")
        onnxruntime.InferenceSession(
            bright_box(tmp_path / "whole.onnx"), options, providers=["CPUExecutionProvider"]
        )
        assert (tmp_path / "m.onnx").read_bytes()[4:8] == b"ORTM"
        assert "export it again" in self.refusal(tmp_path / "m.onnx", describe(TORCHVISION))

    def test_custom_operators_are_refused(self, tmp_path: Path) -> None:
        node = helper.make_node("Steal", ["images"], ["output"], domain="ai.example")
        put = [value("images", "float32", (1, 3, 64, 64))]
        out = [value("output", "float32", (1, 3, 64, 64))]
        model = save(tmp_path / "m.onnx", helper.make_graph([node], "g", put, out), ["ai.example"])
        assert "standard operators" in self.refusal(model, describe({"type": "yolox"}))

    @pytest.mark.parametrize("inside", ["initializer", "constant", "branch"])
    @pytest.mark.parametrize("location", ["secret.bin", "../secret.bin", "/etc/passwd"])
    def test_weights_in_other_files_are_never_read(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        inside: str,
        location: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "secret.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
        model = self.elsewhere(tmp_path / "m.onnx", inside, location)
        message = self.refusal(model, describe(TORCHVISION))
        assert f"weights in other files ({location})" in message

    @staticmethod
    def elsewhere(path: Path, inside: str, location: str) -> Path:
        """A model with a tensor in another file: an initializer, a constant, or in a subgraph."""
        tensor = TensorProto(name="boxes", data_type=TensorProto.FLOAT, dims=[1, 4])
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
        put, out = value("images", "float32", (1, 3, 64, 64)), value("boxes", "float32", (1, 4))
        constant = helper.make_node("Constant", [], ["boxes"], value=tensor)
        if inside == "initializer":
            graph = helper.make_graph([], "g", [put], [out], [tensor])
        elif inside == "constant":
            graph = helper.make_graph([constant], "g", [put], [out])
        else:
            branch = helper.make_graph([constant], "branch", [], [out])
            true = numpy_helper.from_array(np.array(True), "true")
            chosen = helper.make_node(
                "If", ["true"], ["boxes"], then_branch=branch, else_branch=branch
            )
            graph = helper.make_graph([chosen], "g", [put], [out], [true])
        return save(path, graph)

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            ({"data_type": "uint8"}, "data_type: gives uint8 for 'images'.*give float32"),
            ({"shape": (1, 3, 32, 32), "resize_type": "interpolation-linear"}, "input.shape"),
            (
                {"shape": (1, 64, 64, 3), "dim_order": ("batch", "height", "width", "bands")},
                r"gives the shape \[1, 64, 64, 3\].*takes \[1, 3, 64, 64\]",
            ),
            ({"shape": (2, 3, 64, 64)}, "input.shape"),
            ({"classes": ("one",)}, "on a blank tile: .*class 1, which is not"),
        ],
    )
    def test_a_description_of_another_model_is_refused(
        self, tmp_path: Path, words: dict[str, Any], reason: str
    ) -> None:
        message = self.refusal(
            answering(tmp_path / "m.onnx", FOUND), describe(TORCHVISION, **words)
        )
        assert re.search(reason, message), message

    def test_unknown_names_are_refused_with_those_of_the_model(self, tmp_path: Path) -> None:
        model = answering(tmp_path / "m.onnx", FOUND)
        description = describe(TORCHVISION)
        description["mlm:input"][0]["name"] = "x"
        assert "is 'x', and the inputs of" in self.refusal(model, description)
        detector = TORCHVISION | {"outputs": {"scores": "conf"}}
        assert "the output to decode is 'conf'" in self.refusal(model, describe(detector))
        yolo = describe({"type": "yolov8"}, output=None)
        assert "mlm:output[0].name: missing" in self.refusal(model, yolo)

    def test_an_image_with_too_few_bands_is_refused(self, tmp_path: Path) -> None:
        model = answering(tmp_path / "m.onnx", FOUND)
        message = self.refusal(model, describe(TORCHVISION), bands=1)
        assert "takes 3 bands where the image has 1" in message


class TestCalls:
    def test_nan_in_scores_fails_the_tile(self, tmp_path: Path) -> None:
        """A model whose scores are finite on a blank tile and NaN on others."""
        nodes = [
            helper.make_node("ReduceMax", ["images"], ["peak"], keepdims=0),
            helper.make_node("Log", ["peak"], ["log"]),
            helper.make_node("Mul", ["log", "zero"], ["nan"]),
            helper.make_node("Neg", ["peak"], ["minus"]),
            helper.make_node("Sqrt", ["minus"], ["root"]),
            helper.make_node("Reshape", ["root", "one"], ["scores"]),
        ]
        constants = [
            numpy_helper.from_array(np.array([1]), "one"),
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
            numpy_helper.from_array(FOUND["boxes"], "boxes"),
            numpy_helper.from_array(FOUND["labels"], "labels"),
        ]
        out = [value("boxes", "float32", (1, 4)), value("labels", "int64", (1,))]
        out += [value("scores", "float32", (1,))]
        put = [value("images", "float32", (1, 3, 64, 64))]
        graph = helper.make_graph(nodes, "g", put, out, constants)
        endpoint = opened(save(tmp_path / "m.onnx", graph), describe(TORCHVISION))
        with pytest.raises(AnswerError, match="NaN"):
            asked(endpoint, painted((0, 0, 5, 5)))

    def test_a_model_that_cannot_be_run_on_a_tile_fails_it_permanently(
        self, tmp_path: Path
    ) -> None:
        """A model that gathers at the index given by the brightness; only index 0 exists."""
        nodes = [
            helper.make_node("ReduceMax", ["images"], ["peak"], keepdims=0),
            helper.make_node("Cast", ["peak"], ["place"], to=TensorProto.INT64),
            helper.make_node("Gather", ["all", "place"], ["boxes"], axis=0),
        ]
        constants = [
            numpy_helper.from_array(FOUND["boxes"][np.newaxis], "all"),
            numpy_helper.from_array(FOUND["labels"], "labels"),
            numpy_helper.from_array(FOUND["scores"], "scores"),
        ]
        out = [value("boxes", "float32", (1, 4)), value("labels", "int64", (1,))]
        out += [value("scores", "float32", (1,))]
        put = [value("images", "float32", (1, 3, 64, 64))]
        graph = helper.make_graph(nodes, "g", put, out, constants)
        endpoint = opened(save(tmp_path / "m.onnx", graph), describe(TORCHVISION))
        assert len(asked(endpoint, np.zeros((3, 64, 64), np.uint8))[0].boxes) == 1
        with pytest.raises(PermanentError, match="cannot be run on a tile"):
            asked(endpoint, painted((0, 0, 5, 5)))

    def test_close_terminates_a_call_in_progress(self, tmp_path: Path) -> None:
        """A model that loops for a number of times given by the brightness."""
        endpoint = opened(self.spinning(tmp_path / "m.onnx"), describe(TORCHVISION))
        caught: list[Exception] = []

        def ask() -> None:
            try:
                asked(endpoint, painted((0, 0, 64, 64)))
            except Exception as error:
                caught.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        endpoint.close()
        thread.join(30)
        assert not thread.is_alive()
        assert isinstance(caught[0], TransientError)

    def test_a_call_that_takes_too_long_is_terminated(self, tmp_path: Path) -> None:
        endpoint = opened(self.spinning(tmp_path / "m.onnx"), describe(TORCHVISION), timeout=0.5)
        with pytest.raises(EndpointTimeoutError, match=r"more than 0\.5 s"):
            asked(endpoint, painted((0, 0, 64, 64)))
        assert len(asked(endpoint, np.zeros((3, 64, 64), np.uint8))[0].boxes) == 1

    def test_a_model_that_takes_too_long_on_a_blank_tile_is_refused(self, tmp_path: Path) -> None:
        description = describe(TORCHVISION, value_scaling=[{"type": "offset", "value": -1}])
        with pytest.raises(RequestError, match="on a blank tile: The model took more than"):
            opened(self.spinning(tmp_path / "m.onnx"), description, timeout=0.5)

    def test_a_closed_model_is_not_run(self, tmp_path: Path) -> None:
        endpoint = opened(answering(tmp_path / "m.onnx", FOUND), describe(TORCHVISION))
        endpoint.close()
        with pytest.raises(TransientError, match="closed"):
            asked(endpoint, np.zeros((3, 64, 64), np.uint8))

    @staticmethod
    def spinning(path: Path) -> Path:
        body = helper.make_graph(
            [
                helper.make_node("Identity", ["go"], ["still"]),
                helper.make_node("Add", ["sum", "one"], ["more"]),
            ],
            "turn",
            [
                value("turn", "int64", ()),
                helper.make_tensor_value_info("go", TensorProto.BOOL, []),
                value("sum", "float32", ()),
            ],
            [
                helper.make_tensor_value_info("still", TensorProto.BOOL, []),
                value("more", "float32", ()),
            ],
            [numpy_helper.from_array(np.array(1, np.float32), "one")],
        )
        nodes = [
            helper.make_node("ReduceMax", ["images"], ["peak"], keepdims=0),
            helper.make_node("Mul", ["peak", "many"], ["turns"]),
            helper.make_node("Cast", ["turns"], ["count"], to=TensorProto.INT64),
            helper.make_node("Loop", ["count", "true", "zero"], ["end"], body=body),
            helper.make_node("Mul", ["end", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "sure"], ["scores"]),
        ]
        constants = [
            numpy_helper.from_array(np.array(1e9, np.float32), "many"),
            numpy_helper.from_array(np.array(True), "true"),
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
            numpy_helper.from_array(FOUND["scores"], "sure"),
            numpy_helper.from_array(FOUND["boxes"], "boxes"),
            numpy_helper.from_array(FOUND["labels"], "labels"),
        ]
        out = [value("boxes", "float32", (1, 4)), value("labels", "int64", (1,))]
        out += [value("scores", "float32", (1,))]
        put = [value("images", "float32", (1, 3, 64, 64))]
        return save(path, helper.make_graph(nodes, "spinning", put, out, constants))


def test_a_replaced_model_is_read_again(tmp_path: Path) -> None:
    model = answering(tmp_path / "m.onnx", FOUND)
    blank = np.zeros((3, 64, 64), np.uint8)
    assert len(asked(opened(model, describe(TORCHVISION)), blank)[0].boxes) == 1
    nothing = {name: array[:0] for name, array in FOUND.items()}
    answering(model, nothing)
    assert len(asked(opened(model, describe(TORCHVISION)), blank)[0].boxes) == 0


def test_the_models_of_the_tests_are_valid(tmp_path: Path) -> None:
    for model in (answering(tmp_path / "a.onnx", FOUND), bright_box(tmp_path / "b.onnx")):
        onnx.checker.check_model(str(model))


def test_external_weights_under_a_tag_of_more_than_32_bits_are_found(tmp_path: Path) -> None:
    model = onnx.ModelProto(ir_version=8)
    tensor = TensorProto(name="boxes", data_type=1, dims=[1, 4])
    # field 13, with a tag of more than the 32 bits that protobuf keeps
    hidden = tensor.SerializeToString() + b"\xea\x80\x80\x80\x10" + b"\x00"
    graph = b"\x2a" + bytes([len(hidden)]) + hidden
    body = model.SerializeToString() + b"\x3a" + bytes([len(graph)]) + graph
    with pytest.raises(RequestError, match="is not an ONNX file, or is damaged"):
        refuse_external_weights("model.onnx", body)


def test_a_gpu_that_cannot_be_used_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: providers)
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"):  # of a build without GPUs
        endpoint = opened(answering(tmp_path / "m.onnx", FOUND), describe(TORCHVISION))
    assert "m.onnx runs on the CPU: onnxruntime" in caplog.text
    assert endpoint.tiles_per_call == 1
    endpoint.close()
