"""The Open Inference Protocol against a server that runs ONNX files, and its possible faults."""

from __future__ import annotations

import json
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from threading import Thread, Timer
from typing import Any

import numpy as np
import onnx
import pytest
import rasterio
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from rasterio.transform import from_origin
from rasterio.windows import Window

from tasks.errors import (
    AnswerError,
    EndpointError,
    EndpointTimeoutError,
    PermanentError,
    RequestError,
    SwathError,
    ThrottledError,
    TransientError,
    UnreachableError,
)
from tasks.grid.tiles import Tile
from tasks.imagery import Image, TilePixels, open_image
from tasks.inference.answer import read_answer
from tasks.inference.endpoint import Boxes
from tasks.inference.oip import OipEndpoint, open_oip
from tasks.inference.onnx import open_onnx
from tasks.request import Request
from tasks.results import detections
from tests import model_answers
from tests.oip_server import oip_server

SHARED = Path(__file__).parents[2].parent / "shared"
YOLOX, PLANES = SHARED / "models" / "yolox_nano.onnx", SHARED / "data" / "2_planes.tiff"
SIDE = 32
BOX = [4, 5, 20, 25]
TYPES = {
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "int16": TensorProto.INT16,
    "int64": TensorProto.INT64,
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
}


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    images: onnx.ValueInfoProto,
    outputs: list[onnx.ValueInfoProto],
    **constants: NDArray[Any],
) -> None:
    fixed = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [images], outputs, fixed)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def images(data_type: str, batch: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info("images", TYPES[data_type], [batch, 3, SIDE, SIDE])


def brightness(path: Path, takes: str, gives: str, batch: int | str = "n") -> None:
    """A detector, YOLOv8 end to end, of one box whose score is the tile's mean brightness."""
    nodes = [
        helper.make_node("Cast", ["images"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real", "axes"], ["mean"], keepdims=1),
        helper.make_node("Reshape", ["mean", "rows"], ["grey"]),
        helper.make_node("Mul", ["grey", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "box"], ["found"]),
        helper.make_node("Cast", ["found"], ["output"], to=TYPES[gives]),
    ]
    output = helper.make_tensor_value_info("output", TYPES[gives], [batch, 1, 6])
    save(
        path,
        nodes,
        images(takes, batch),
        [output],
        axes=np.array([1, 2, 3]),
        rows=np.array([-1, 1, 1]),
        scale=np.array([[[0, 0, 0, 0, 1 / 128, 0]]], np.float32),
        box=np.array([[[*BOX, 0, 1]]], np.float32),
    )


def talkative(path: Path) -> None:
    """A detector with boxes, labels and scores, and a text output that is not decoded."""
    nodes = [
        helper.make_node("Cast", ["images"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["real", "axes"], ["mean"], keepdims=1),
        helper.make_node("Reshape", ["mean", "rows"], ["grey"]),
        helper.make_node("Mul", ["grey", "scale"], ["scores"]),
        helper.make_node("Mul", ["grey", "zero"], ["none"]),
        helper.make_node("Cast", ["none"], ["labels"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["none", "deep"], ["deeper"]),
        helper.make_node("Add", ["deeper", "box"], ["boxes"]),
        helper.make_node("Cast", ["none"], ["words"], to=TensorProto.STRING),
    ]
    outputs = [
        helper.make_tensor_value_info("words", TensorProto.STRING, ["n", 1]),
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["n", 1, 4]),
        helper.make_tensor_value_info("labels", TensorProto.INT64, ["n", 1]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 1]),
    ]
    save(
        path,
        nodes,
        images("float32", "n"),
        outputs,
        axes=np.array([1, 2, 3]),
        rows=np.array([-1, 1]),
        deep=np.array([-1, 1, 1]),
        scale=np.array([[1 / 128]], np.float32),
        zero=np.array([[0]], np.float32),
        box=np.array([[BOX]], np.float32),
    )


def describe(
    path: Path, *, data_type: str = "float32", batch: int = -1, **more: dict[str, Any]
) -> Path:
    """The description of a model of these tests, beside it."""
    shape = [batch, 3, SIDE, SIDE]
    order = ["batch", "bands", "height", "width"]
    document = {
        "mlm:name": path.stem,
        "mlm:input": [
            {
                "name": "images",
                "bands": [],
                "input": {"shape": shape, "dim_order": order, "data_type": data_type},
            }
            | more.get("input", {})
        ],
        "mlm:output": [
            {"classification:classes": [{"value": 0, "name": "car"}, {"value": 1, "name": "ship"}]}
        ],
        "swath:detector": more.get("detector", {"type": "yolov8", "end2end": True}),
    }
    path.write_text(json.dumps(document))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, and an image of four tiles."""
    folder = tmp_path_factory.mktemp("oip")
    for takes in TYPES:
        brightness(folder / f"{takes}.onnx", takes, "float32")
    for gives in ("float16", "float64"):
        brightness(folder / f"to-{gives}.onnx", "float32", gives)
    brightness(folder / "pairs.onnx", "float32", "float32", batch=2)
    talkative(folder / "talkative.onnx")
    pixels = np.repeat([10, 40, 70, 100], SIDE).astype(np.uint8)
    shape = {"width": 4 * SIDE, "height": SIDE, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32631", "transform": from_origin(5e5, 57e5, 1, 1)}
    with rasterio.open(folder / "a.tif", "w", driver="GTiff", **shape, **place) as dataset:
        dataset.write(np.broadcast_to(pixels, (3, SIDE, 4 * SIDE)))
    return folder


@pytest.fixture(scope="module")
def image(folder: Path) -> Image:
    return open_image(str(folder / "a.tif"), roots=[folder])


@pytest.fixture(scope="module")
def servers(folder: Path) -> Iterator[dict[str, str]]:
    """The addresses of servers that support different features, each with all the models."""
    with oip_server(**{file.stem: file for file in folder.glob("*.onnx")}) as address:
        yield {
            "advertised": address,
            "silent": f"{address}/silent",
            "none": f"{address}/none",
            "closed": f"{address}/gate/way",
        }


def seen(address: str) -> list[dict[str, Any]]:
    """The inference requests that a server has received."""
    with urllib.request.urlopen(f"{address}/seen") as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found


def asked(name: str, kind: str, tile_size: int, **parameters: Any) -> Request:
    """A request for a model."""
    return Request.model_validate(
        {
            "jobId": "job-1",
            "imageUrls": ["s3://images/a.tif"],
            "outputs": [{"type": "S3", "bucket": "results", "prefix": "a"}],
            "imageProcessor": {"name": name, "type": kind},
            "imageProcessorParameters": parameters,
            "imageProcessorTileSize": tile_size,
            "imageProcessorTileOverlap": 0,
        }
    )


Open = Callable[..., OipEndpoint]


@pytest.fixture
def opened(folder: Path, image: Image) -> Iterator[Open]:
    """Opens endpoints as a request would, and closes them at the end."""
    with ExitStack() as stack:

        def opened(
            url: str, description: Path | None, timeout: float = 20.0, **parameters: Any
        ) -> OipEndpoint:
            named = {} if description is None else {"description": str(description)}
            request = asked(url, "OIP_ENDPOINT", SIDE, **named, **parameters)
            return stack.enter_context(closing(open_oip(request, image, [folder], timeout)))

        yield opened


def tiles(count: int = 4) -> list[TilePixels]:
    """Tiles of one brightness each."""
    return [
        TilePixels(
            Tile(index, Window(index * SIDE, 0, SIDE, SIDE)),
            np.full((3, SIDE, SIDE), 10 + 30 * index, np.uint8),
            None,
        )
        for index in range(count)
    ]


def ask(endpoint: OipEndpoint, batch: list[TilePixels]) -> list[Boxes]:
    return model_answers.boxes(endpoint.ask([endpoint.prepare(tile) for tile in batch]))


def check(answers: list[Boxes], batch: list[TilePixels], tolerance: float = 1e-6) -> None:
    """Each tile has its own answer: the box, with the tile's brightness as its score."""
    assert len(answers) == len(batch)
    for found, tile in zip(answers, batch, strict=True):
        assert found.boxes.tolist() == [BOX]
        assert found.scores == pytest.approx(tile.pixels.mean() / 128, abs=tolerance)


def refusal(open_it: Callable[[], OipEndpoint]) -> str:
    with pytest.raises(RequestError) as caught:
        open_it()
    return str(caught.value)


LOW = {"type": "yolov8", "end2end": True, "score_threshold": 0.01}


@pytest.fixture
def described(folder: Path) -> Callable[..., Path]:
    """Writes a description with a low score threshold, for dark tiles."""

    def described(name: str = "float32", **fields: Any) -> Path:
        return describe(folder / f"{name}.json", **{"detector": LOW} | fields)

    return described


@pytest.mark.parametrize("kind", ["advertised", "silent", "none"])
@pytest.mark.parametrize("takes", TYPES)
def test_tensors_of_every_type_are_sent_in_binary_and_in_json(
    servers: dict[str, str], opened: Open, described: Callable[..., Path], takes: str, kind: str
) -> None:
    url = f"{servers[kind]}/v2/models/{takes}"
    endpoint = opened(url, described(takes, data_type=takes))
    if (takes, kind) == ("float16", "none"):
        with pytest.raises(PermanentError, match="failed to parse the request JSON"):
            ask(endpoint, tiles(1))
        return
    for tile in tiles():
        check(ask(endpoint, [tile]), [tile])
    forms = [one["binary"] for one in seen(servers[kind])][-4:]
    told = {"advertised": [True] * 4, "silent": [False, True, True, True], "none": [False] * 4}
    assert forms == ([True] * 4 if takes == "float16" else told[kind])


@pytest.mark.parametrize("gives", ["float16", "float64"])
def test_tensors_of_every_precision_are_read(
    servers: dict[str, str], opened: Open, described: Callable[..., Path], gives: str
) -> None:
    endpoint = opened(f"{servers['advertised']}/v2/models/to-{gives}", described())
    check(ask(endpoint, tiles(1)), tiles(1), tolerance=1e-3)


def test_outputs_that_are_not_decoded_are_not_requested(
    servers: dict[str, str], opened: Open, described: Callable[..., Path]
) -> None:
    detector = {"type": "torchvision", "score_threshold": 0.01}
    for kind in ("advertised", "none"):
        url = f"{servers[kind]}/v2/models/talkative"
        endpoint = opened(url, described("talkative", detector=detector))
        for tile in tiles():
            check(ask(endpoint, [tile]), [tile])


def test_a_call_has_as_many_tiles_as_the_model_takes(
    servers: dict[str, str], opened: Open, described: Callable[..., Path]
) -> None:
    endpoint = opened(f"{servers['advertised']}/v2/models/float32", described())
    assert endpoint.tiles_per_call == 4
    for count in (4, 3, 1):
        check(ask(endpoint, tiles(count)), tiles(count))
        assert seen(servers["advertised"])[-1]["shape"] == [count, 3, SIDE, SIDE]
    four = described("four", batch=-1)
    document = json.loads(four.read_text()) | {"mlm:batch_size_suggestion": 2}
    four.write_text(json.dumps(document))
    assert opened(f"{servers['advertised']}/v2/models/float32", four).tiles_per_call == 2
    # if the server does not say, the description decides; the default is 1
    assert opened(f"{servers['silent']}/v2/models/float32", four).tiles_per_call == 2
    assert opened(f"{servers['silent']}/v2/models/float32", described()).tiles_per_call == 1


def test_a_batch_of_a_fixed_size_is_always_full(
    servers: dict[str, str], opened: Open, described: Callable[..., Path]
) -> None:
    endpoint = opened(f"{servers['none']}/v2/models/pairs", described("pairs", batch=2))
    assert endpoint.tiles_per_call == 2
    for count in (2, 1):
        check(ask(endpoint, tiles(count)), tiles(count))
        assert seen(servers["none"])[-1]["shape"][0] == 2


@pytest.mark.parametrize(("width", "boxes"), [(3, []), (10, [[4, 5, 10, 25]])])
def test_boxes_in_the_padding_of_a_thin_image_are_no_fault_of_the_model(
    servers: dict[str, str], folder: Path, width: int, boxes: list[list[float]]
) -> None:
    """The model finds x from 4 to 20 whatever it is given; the image ends before that."""
    words = {"bands": [], "resize_type": "pad"}
    described = describe(folder / f"thin-{width}.json", detector=LOW, input=words)
    shape = {"width": width, "height": SIDE, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32631", "transform": from_origin(5e5, 57e5, 1, 1)}
    pixels = np.full((3, SIDE, width), 90, np.uint8)
    path = folder / f"thin-{width}.tif"
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as dataset:
        dataset.write(pixels)
    url = f"{servers['advertised']}/v2/models/float32"
    request = asked(url, "OIP_ENDPOINT", SIDE, description=str(described))
    thin = open_image(str(path), roots=[folder])
    tile = TilePixels(Tile(0, Window(0, 0, width, SIDE)), pixels, None)
    with closing(open_oip(request, thin, [folder], 20.0)) as endpoint:
        (found,) = ask(endpoint, [tile])
    answer = read_answer(found, tile.tile)
    table = answer.detections
    assert ([] if table is None else detections.boxes(table).tolist()) == boxes
    assert answer.rejected == 0


@pytest.mark.parametrize("ending", ["", "/", "/infer", "/versions/1", "/versions/1/infer"])
def test_all_spellings_of_a_model_s_url_are_accepted(
    servers: dict[str, str], opened: Open, described: Callable[..., Path], ending: str
) -> None:
    url = f"{servers['advertised']}/v2/models/float32{ending}"
    endpoint = opened(url, described())
    version = "/versions/1" if "versions" in ending else ""
    assert endpoint.url == f"{servers['advertised']}/v2/models/float32{version}/infer"
    check(ask(endpoint, tiles(1)), tiles(1))


def test_parameters_are_headers_of_every_request(
    servers: dict[str, str], opened: Open, described: Callable[..., Path]
) -> None:
    url = f"{servers['closed']}/v2/models/float32"
    told = refusal(lambda: opened(url, described()))
    assert told.startswith(f"imageProcessor.name: {url} answered HTTP 401: missing token")
    assert "Authorization" in told
    endpoint = opened(url, described(), Authorization="Bearer abc", threshold=0.5)
    check(ask(endpoint, tiles(1)), tiles(1))  # of a server that names no inputs and outputs
    last = seen(servers["closed"])[-1]
    assert last["threshold"] == "0.5"
    assert "description" not in last


@pytest.mark.parametrize(
    "name", ["content-type", "Transfer-Encoding", "Inference-Header-Content-Length"]
)
def test_headers_of_the_protocol_are_refused_as_parameters(
    servers: dict[str, str], opened: Open, described: Callable[..., Path], name: str
) -> None:
    url = f"{servers['advertised']}/v2/models/float32"
    told = refusal(lambda: opened(url, described(), **{name: "5"}))
    assert told.startswith(f"imageProcessorParameters.{name}: ")


def test_a_request_without_a_description_is_refused_with_the_remedy(
    servers: dict[str, str], opened: Open
) -> None:
    told = refusal(lambda: opened(f"{servers['advertised']}/v2/models/float32", None))
    assert told.startswith("imageProcessorParameters.description: is missing")
    assert "s3://bucket/model.json" in told


@pytest.mark.parametrize(
    ("model", "fields", "told"),
    [
        ("nobody", {}, "answered HTTP 404: Request for unknown model: 'nobody' is not found"),
        ("uint8", {}, "mlm:input[0].input.data_type: gives float32 for 'images'"),
        ("float32", {"data_type": "uint8"}, "takes float32; give float32"),
        (
            "float32",
            {"input": {"name": "image"}},
            "mlm:input[0].name: is 'image'",
        ),
        ("pairs", {}, "mlm:input[0].input.shape: gives the shape [1, 3, 32, 32] for 'images'"),
        ("pairs", {"batch": 4}, "takes [2, 3, 32, 32] (-1 is any size); give that shape"),
        ("talkative", {}, "mlm:output[0].name: missing, and the outputs of"),
        (
            "float32",
            {"detector": {"type": "torchvision"}},
            "the output to decode is 'boxes'",
        ),
        (
            "talkative",
            {"detector": {"type": "torchvision", "outputs": {"labels": "words"}}},
            "gives BYTES in 'words', which cannot be decoded; export the model with one of int8",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_any_tile(
    servers: dict[str, str],
    opened: Open,
    described: Callable[..., Path],
    *,
    model: str,
    fields: dict[str, Any],
    told: str,
) -> None:
    before = len(seen(servers["advertised"]))
    url = f"{servers['advertised']}/v2/models/{model}"
    path = described(f"misfit-{model}", **fields)
    said = refusal(lambda: opened(url, path))
    assert told in said
    assert url in said
    assert said.startswith(("imageProcessor.name: ", f"{path}: "))
    assert len(seen(servers["advertised"])) == before


@pytest.mark.parametrize(
    "path", ["", "/v2", "/v2/models", "/v2/models/", "/v1/models/float32:predict", "/v2/models/a?b"]
)
def test_a_url_of_something_else_is_refused(
    servers: dict[str, str], opened: Open, described: Callable[..., Path], path: str
) -> None:
    told = refusal(lambda: opened(servers["advertised"] + path, described()))
    assert "is not the URL of a model in the Open Inference Protocol; give http(s)://" in told


def test_a_server_of_another_protocol_is_refused(
    servers: dict[str, str], opened: Open, described: Callable[..., Path]
) -> None:
    url = f"{servers['advertised']}/v2/models/float32"
    told = refusal(lambda: opened(url, described(), misbehave="page"))
    assert f"{url} does not speak the Open Inference Protocol (its answer: " in told


def test_a_model_that_is_not_ready_is_a_transient_error(
    servers: dict[str, str], opened: Open, described: Callable[..., Path]
) -> None:
    url = f"{servers['advertised']}/v2/models/float32"
    with pytest.raises(TransientError, match="the model is not ready; wait until it is loaded"):
        opened(url, described(), misbehave="unready")
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:9/v2/models/a: "):
        opened("http://127.0.0.1:9/v2/models/a", described())


@pytest.mark.parametrize(
    ("fault", "kind", "told"),
    [
        ("wrong-size", AnswerError, "it has 20 bytes, not 24"),
        ("truncated", AnswerError, "only 14 of its 24 bytes were received"),
        ("surplus", AnswerError, "4 bytes more than its outputs"),
        ("missing", AnswerError, "outputs: List should have at least 1 item"),
        ("renamed", AnswerError, "lacks the output 'output' of the model"),
        ("twice", AnswerError, "the output 'output' twice"),
        ("huge-shape", AnswerError, "it has 24 bytes, not"),
        ("negative-shape", AnswerError, "outputs.0.shape.0"),
        ("deep-shape", AnswerError, "outputs.0.shape"),
        ("empty-and-huge", AnswerError, "it has 24 bytes, not 0"),
        ("text", AnswerError, "'output' is BYTES"),
        ("bfloat", AnswerError, "'output' is BF16"),
        ("half", AnswerError, "it has 24 bytes, not 12"),
        ("unknown", AnswerError, "'output' is FP128"),
        ("nan", AnswerError, "scores are NaN"),
        ("no-data", AnswerError, "outputs.0.datatype: Field required"),
        ("html", AnswerError, "not JSON"),
        ("list", AnswerError, "does not follow the Open Inference Protocol"),
        ("nothing", AnswerError, "not JSON"),
        ("error-200", AnswerError, '"error":"out of memory"'),
        ("400", PermanentError, "HTTP 400: unexpected shape for input 'images'"),
        ("404", PermanentError, "HTTP 404: Request for unknown model"),
        ("429", ThrottledError, "HTTP 429: slow down"),
        ("500", TransientError, "HTTP 500: CUDA out of memory"),
        ("503", ThrottledError, "HTTP 503: Exceeds maximum queue size"),
        ("broken", UnreachableError, "end of file"),
        ("slow", EndpointTimeoutError, "no complete answer within 0.5 s"),
    ],
)
def test_each_fault_raises_its_error_with_the_url_and_the_reason(
    servers: dict[str, str],
    opened: Open,
    described: Callable[..., Path],
    *,
    fault: str,
    kind: type[Exception],
    told: str,
) -> None:
    url = f"{servers['advertised']}/v2/models/float32"
    timeout = 0.5 if fault == "slow" else 20.0
    endpoint = opened(url, described(), timeout, misbehave=fault)
    with pytest.raises(SwathError) as caught:
        ask(endpoint, tiles(1))
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"{url}/infer")
    assert told in str(caught.value)
    assert len(str(caught.value)) < 500
    if isinstance(caught.value, ThrottledError):
        assert caught.value.retry_after == (7 if fault == "503" else None)


@pytest.mark.parametrize("fault", ["long-head", "odd-head", "grown-batch"])
def test_a_response_for_more_tiles_than_were_sent_is_refused(
    servers: dict[str, str], opened: Open, described: Callable[..., Path], fault: str
) -> None:
    url = f"{servers['advertised']}/v2/models/float32"
    endpoint = opened(url, described(), misbehave=fault)
    with pytest.raises(AnswerError, match=r"Inference-Header-Content-Length|for a batch of 3"):
        ask(endpoint, tiles(3))


def test_close_ends_a_call_in_progress(
    servers: dict[str, str], opened: Open, described: Callable[..., Path]
) -> None:
    url = f"{servers['advertised']}/v2/models/float32"
    endpoint = opened(url, described(), 25.0, misbehave="slow")
    closing_soon = Timer(0.3, endpoint.close)
    closing_soon.start()
    with pytest.raises(EndpointError) as caught:
        ask(endpoint, tiles(1))
    assert not isinstance(
        caught.value, EndpointTimeoutError
    )  # the server says nothing for longer than that
    closing_soon.join()


def test_many_threads_may_ask_at_once(
    servers: dict[str, str], opened: Open, described: Callable[..., Path]
) -> None:
    endpoint = opened(f"{servers['silent']}/v2/models/float32", described())
    answers: dict[int, list[Boxes]] = {}
    batch = tiles(4) * 4

    def work(place: int) -> None:
        answers[place] = ask(endpoint, [batch[place]])

    threads = [Thread(target=work, args=(place,)) for place in range(len(batch))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, tile in enumerate(batch):
        check(answers[place], [tile])


@pytest.mark.skipif(
    not (YOLOX.exists() and PLANES.exists()),
    reason="../shared/models/yolox_nano.onnx or ../shared/data is not on this machine",
)
def test_both_aircraft_are_found_as_they_are_in_process(tmp_path: Path) -> None:
    description = tmp_path / "yolox.json"
    order = ["batch", "bands", "height", "width"]
    names = [{"value": value, "name": f"coco-{value}"} for value in range(80)]
    names[4]["name"] = "aircraft"
    words = {
        "mlm:name": "YOLOX-nano",
        "mlm:input": [
            {
                "name": "images",
                "bands": [],
                "input": {"shape": [1, 3, 416, 416], "dim_order": order, "data_type": "float32"},
                "resize_type": "interpolation-linear",
            }
        ],
        "mlm:output": [{"classification:classes": names}],
        "swath:detector": {"type": "yolox", "channel_order": "BGR", "letterbox": "corner"},
    }
    description.write_text(json.dumps(words))
    image, roots = open_image(str(PLANES), roots=[SHARED]), [SHARED, tmp_path]
    with warnings.catch_warnings(action="ignore"), rasterio.open(PLANES) as dataset:
        tile = TilePixels(Tile(0, Window(0, 0, 512, 512)), dataset.read(), None)
    told = {"description": str(description)}
    with closing(open_onnx(asked(str(YOLOX), "ONNX", 512, **told), image, roots, 60.0)) as local:
        (in_process,) = model_answers.boxes(local.ask([local.prepare(tile)]))
    assert [in_process.names[place] for place in in_process.classes] == ["aircraft"] * 2
    assert in_process.scores == pytest.approx([0.89, 0.61], abs=0.1)
    with oip_server(yolox=YOLOX) as address:
        for url in (f"{address}/v2/models/yolox", f"{address}/none/v2/models/yolox"):
            request = asked(url, "OIP_ENDPOINT", 512, **told)
            with closing(open_oip(request, image, roots, 60.0)) as endpoint:
                (served,) = ask(endpoint, [tile])
            np.testing.assert_allclose(served.boxes, in_process.boxes, atol=0.01)
            np.testing.assert_allclose(served.scores, in_process.scores, atol=1e-4)
            assert served.classes.tolist() == in_process.classes.tolist()
