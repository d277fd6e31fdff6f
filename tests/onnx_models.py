"""Small real ONNX models for tests, and the descriptions that go with them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SHARED = Path(__file__).parents[2] / "shared"
YOLOX = SHARED / "models" / "yolox_nano.onnx"
PLANES = SHARED / "data" / "2_planes.tiff"
PLANE_BOXES = [[145, 122, 300, 213], [184, 260, 344, 352]]
"""Boxes of the aircraft in `2_planes.tiff` that YOLOX-nano finds, to a few pixels."""

_COCO = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,"
    "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,"
    "backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,"
    "baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,"
    "banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,"
    "oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
COCO = _COCO.split(",")

_IR, _OPSET = 8, 17


def describe(
    detector: Mapping[str, Any],
    *,
    classes: Sequence[str] = ("ship", "aircraft"),
    first_class: int = 0,
    shape: Sequence[int] = (1, 3, 64, 64),
    dim_order: Sequence[str] = ("batch", "bands", "height", "width"),
    data_type: str = "float32",
    output: str | None = "output",
    **model_input: Any,
) -> dict[str, Any]:
    """The properties of a model's STAC Item, with `swath:detector`."""
    structure = {"shape": list(shape), "dim_order": list(dim_order), "data_type": data_type}
    named = [{"value": value, "name": name} for value, name in enumerate(classes, first_class)]
    return {
        "mlm:name": "of the tests",
        "mlm:architecture": "unknown",
        "mlm:tasks": ["object-detection"],
        "mlm:input": [{"name": "images", "input": structure, **model_input}],
        "mlm:output": [
            {
                "tasks": ["object-detection"],
                "result": {"shape": [-1], "dim_order": ["box"], "data_type": "float32"},
                "classification:classes": named,
            }
            | ({"name": output} if output else {})
        ],
        "swath:detector": dict(detector),
    }


def yolox_nano() -> dict[str, Any]:
    """The description of `yolox_nano.onnx`."""
    return describe(
        {"type": "yolox", "channel_order": "BGR", "letterbox": "corner", "score_threshold": 0.3},
        classes=COCO,
        shape=(1, 3, 416, 416),
        bands=["red", "green", "blue"],
        resize_type="interpolation-linear",
    )


def write_json(path: Path, document: object) -> Path:
    """Write a document as JSON."""
    path.write_text(json.dumps(document))
    return path


def save(
    path: Path,
    graph: onnx.GraphProto,
    domains: Sequence[str] = (),
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """Write a graph as a model."""
    opsets = [helper.make_opsetid("", _OPSET), *(helper.make_opsetid(name, 1) for name in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR)
    helper.set_model_props(model, dict(metadata))
    path.write_bytes(model.SerializeToString())
    return path


def value(name: str, dtype: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    """An input or output; a size given as text is any size."""
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape)
    )


def answering(
    path: Path,
    outputs: Mapping[str, NDArray[Any]],
    *,
    shape: Sequence[int | str] = (1, 3, 64, 64),
    dtype: str = "float32",
    metadata: Mapping[str, str] = MappingProxyType({}),
    declared: Mapping[str, Sequence[int | str]] = MappingProxyType({}),
) -> Path:
    """A model that gives the same answer to every input.

    Args:
        path: Its file.
        outputs: The answer.
        shape: Shape of its input.
        dtype: Type of its input.
        metadata: Texts of an exporter.
        declared: The shape that it declares for an output, if that is not the answer's.
    """
    constants = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))
        for name, array in outputs.items()
    ]
    results = [
        value(name, array.dtype.name, declared.get(name, array.shape))
        for name, array in outputs.items()
    ]
    graph = helper.make_graph(constants, "answering", [value("images", dtype, shape)], results)
    return save(path, graph, metadata=metadata)


def of_ultralytics(**entries: object) -> dict[str, str]:
    """The metadata that Ultralytics' exporter writes, of a detector of ships and barges.

    Args:
        entries: Other values; None leaves the entry out.
    """
    written: dict[str, object] = {
        "description": "Ultralytics YOLO11n model trained on harbour.yaml",
        "author": "Ultralytics",
        "version": "8.3.200",
        "task": "detect",
        "batch": 1,
        "imgsz": [64, 64],
        "stride": 32,
        "channels": 3,
        "names": {0: "ship", 1: "barge"},
        "args": {"batch": 1, "half": False, "dynamic": False, "simplify": True, "nms": False},
    }
    return {key: str(text) for key, text in (written | entries).items() if text is not None}


def bright_box(
    path: Path, *, shape: Sequence[int | str] = (1, 3, 64, 64), masks: bool = False
) -> Path:
    """A model that finds the bounding box of all pixels brighter than 127, as torchvision's do.

    Its boxes (batch, 1, 4), labels and scores (batch, 1) depend on its input, and so do its masks
    (batch, 1, 1, height, width), if it has them.
    """

    def extent(axis: int, low: str, high: str) -> list[onnx.NodeProto]:
        other = 3 - axis
        return [
            helper.make_node("ReduceMax", ["plane"], [f"line{axis}"], axes=[other], keepdims=0),
            helper.make_node("Greater", [f"line{axis}", "half"], [f"is{axis}"]),
            helper.make_node("Cast", [f"is{axis}"], [f"int{axis}"], to=TensorProto.INT32),
            helper.make_node("ArgMax", [f"int{axis}"], [low], axis=1),
            helper.make_node(
                "ArgMax", [f"int{axis}"], [f"last{axis}"], axis=1, select_last_index=1
            ),
            helper.make_node("Add", [f"last{axis}", "one"], [high]),
        ]

    nodes = [
        helper.make_node("ReduceMax", ["images"], ["plane"], axes=[1], keepdims=0),
        *extent(1, "y0", "y1"),
        *extent(2, "x0", "x1"),
        helper.make_node("Concat", ["x0", "y0", "x1", "y1"], ["whole"], axis=1),
        helper.make_node("Cast", ["whole"], ["flat"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["flat", "axis1"], ["boxes"]),
        helper.make_node("Cast", ["any"], ["scores"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["int1"], ["any"], axes=[1], keepdims=1),
        helper.make_node("Cast", ["any"], ["labels"], to=TensorProto.INT64),
    ]
    nodes[-3:] = [nodes[-2], nodes[-3], nodes[-1]]  # in the order of execution
    if masks:
        nodes += [
            helper.make_node("Greater", ["plane", "half"], ["bright"]),
            helper.make_node("Cast", ["bright"], ["filled"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["filled", "axes12"], ["masks"]),
        ]
    constants = [
        numpy_helper.from_array(np.array(127, np.float32), "half"),
        numpy_helper.from_array(np.array(1, np.int64), "one"),
        numpy_helper.from_array(np.array([1], np.int64), "axis1"),
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes12"),
    ]
    batch = shape[0]
    results = [
        value("boxes", "float32", (batch, 1, 4)),
        value("labels", "int64", (batch, 1)),
        value("scores", "float32", (batch, 1)),
    ]
    if masks:
        results.append(value("masks", "float32", (batch, 1, 1, *shape[2:])))
    graph = helper.make_graph(
        nodes, "bright", [value("images", "float32", shape)], results, constants
    )
    return save(path, graph)


def bright_prototypes(path: Path, *, metadata: Mapping[str, str] = MappingProxyType({})) -> Path:
    """A YOLO for segmentation that finds all pixels brighter than half as one object.

    Its input has values from 0 to 1. Its predictions (1, 6, 1) are the box, a score of 0.9 and a
    coefficient; its prototypes (1, 1, 16, 16) are the mean brightness of 4 × 4 pixels, as logits.
    """

    def extent(axis: int) -> list[onnx.NodeProto]:
        line, whole = f"line{axis}", f"int{axis}"
        return [
            helper.make_node("ReduceMax", ["plane"], [line], axes=[5 - axis], keepdims=0),
            helper.make_node("Greater", [line, "half"], [f"is{axis}"]),
            helper.make_node("Cast", [f"is{axis}"], [whole], to=TensorProto.INT32),
            helper.make_node("ArgMax", [whole], [f"low{axis}"], axis=2),
            helper.make_node("ArgMax", [whole], [f"high{axis}"], axis=2, select_last_index=1),
            helper.make_node("Cast", [f"low{axis}"], [f"first{axis}"], to=TensorProto.FLOAT),
            helper.make_node("Cast", [f"high{axis}"], [f"final{axis}"], to=TensorProto.FLOAT),
            helper.make_node("Add", [f"final{axis}", "one"], [f"end{axis}"]),
            helper.make_node("Sub", [f"end{axis}", f"first{axis}"], [f"size{axis}"]),
            helper.make_node("Add", [f"end{axis}", f"first{axis}"], [f"twice{axis}"]),
            helper.make_node("Mul", [f"twice{axis}", "half"], [f"middle{axis}"]),
        ]

    parts = ["middle3", "middle2", "size3", "size2", "score", "coefficient"]
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["plane"], axes=[1], keepdims=1),
        *extent(2),
        *extent(3),
        helper.make_node("ReduceMax", ["int2"], ["any"], axes=[2], keepdims=1),
        helper.make_node("Cast", ["any"], ["found"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["found", "sure"], ["score"]),
        helper.make_node("Concat", parts, ["output0"], axis=1),
        helper.make_node("AveragePool", ["plane"], ["mean"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Sub", ["mean", "half"], ["centred"]),
        helper.make_node("Mul", ["centred", "steep"], ["output1"]),
    ]
    numbers = {"half": 0.5, "one": 1.0, "sure": 0.9, "steep": 40.0}
    constants = [
        *(
            numpy_helper.from_array(np.array(each, np.float32), name)
            for name, each in numbers.items()
        ),
        numpy_helper.from_array(np.ones((1, 1, 1), np.float32), "coefficient"),
    ]
    results = [
        value("output0", "float32", (1, 6, 1)),
        value("output1", "float32", (1, 1, 16, 16)),
    ]
    graph = helper.make_graph(
        nodes, "bright", [value("images", "float32", (1, 3, 64, 64))], results, constants
    )
    return save(path, graph, metadata=metadata)


def pixelwise(
    path: Path,
    weights: Sequence[Sequence[float]],
    *,
    shape: Sequence[int | str] = ("n", 3, 64, 64),
    dtype: str = "float32",
    stride: int = 1,
    crop: int = 0,
    last: bool = False,
    softmax: bool = False,
    argmax: bool = False,
    keepdims: bool = True,
    further: bool = False,
) -> Path:
    """A model that answers each pixel with sums of its bands, `map`.

    Args:
        path: Its file.
        weights: The weight of each band of the input, for each band of the output.
        shape: Shape of its input, bands first.
        dtype: Type of its input and output.
        stride: Pixels of the input for each of the output, along an axis.
        crop: Pixels that are missing at each border of the output.
        last: Whether the output's bands come last.
        softmax: Whether it answers with probabilities.
        argmax: Whether it answers with the number of the greatest band, int64, in place of all.
        keepdims: Whether a single band has a dimension of its own.
        further: Whether it has another output before the map, `features`.
    """
    kernel = np.array(weights, dtype)[:, :, np.newaxis, np.newaxis]
    kernel = np.pad(kernel, [(0, 0), (0, 0), (crop, crop), (crop, crop)])
    nodes = [helper.make_node("Conv", ["images", "kernel"], ["sums"], strides=[stride, stride])]
    found, kind = "sums", dtype
    if softmax:
        nodes.append(helper.make_node("Softmax", [found], ["odds"], axis=1))
        found = "odds"
    if argmax:
        nodes.append(helper.make_node("ArgMax", [found], ["numbers"], axis=1, keepdims=keepdims))
        found, kind = "numbers", "int64"
    elif not keepdims:
        nodes.append(helper.make_node("Squeeze", [found, "axis"], ["squeezed"]))
        found = "squeezed"
    if last:
        nodes.append(helper.make_node("Transpose", [found], ["turned"], perm=[0, 2, 3, 1]))
        found = "turned"
    nodes.append(helper.make_node("Identity", [found], ["map"]))
    results = [value("map", kind, ["n", "a", "b", "c"] if keepdims else ["n", "a", "b"])]
    if further:
        nodes.append(helper.make_node("Identity", ["images"], ["features"]))
        results.insert(0, value("features", dtype, shape))
    constants = [numpy_helper.from_array(kernel, "kernel")]
    if not keepdims and not argmax:
        constants.append(numpy_helper.from_array(np.array([1]), "axis"))
    graph = helper.make_graph(
        nodes, "pixelwise", [value("images", dtype, shape)], results, constants
    )
    return save(path, graph)


def pooled(
    path: Path,
    weights: Sequence[Sequence[float]],
    *,
    shape: Sequence[int | str] = ("n", 3, 32, 32),
    flat: bool = True,
    softmax: bool = False,
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """A model that answers a tile with sums of the means of its bands, `numbers`.

    Args:
        path: Its file.
        weights: The weight of each band, for each number.
        shape: Shape of its input.
        flat: Whether the output is (n, numbers), not (n, numbers, 1, 1).
        softmax: Whether it answers with probabilities.
        metadata: Texts of an exporter.
    """
    kernel = np.array(weights, np.float32)[:, :, np.newaxis, np.newaxis]
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["means"]),
        helper.make_node("Conv", ["means", "kernel"], ["sums"]),
        helper.make_node("Softmax" if softmax else "Identity", ["sums"], ["found"]),
        helper.make_node("Flatten" if flat else "Identity", ["found"], ["numbers"]),
    ]
    if softmax:
        nodes[2].attribute.append(helper.make_attribute("axis", 1))
    sizes = [shape[0], len(weights)] if flat else [shape[0], len(weights), 1, 1]
    result = value("numbers", "float32", sizes)
    constants = [numpy_helper.from_array(kernel, "kernel")]
    graph = helper.make_graph(
        nodes, "pooled", [value("images", "float32", shape)], [result], constants
    )
    return save(path, graph, metadata=metadata)


def describe_map(
    raster: Mapping[str, Any] | None,
    *,
    classes: Sequence[str] = ("dark", "bright"),
    first_class: int = 0,
    task: str = "semantic-segmentation",
    shape: Sequence[int] = (-1, 3, 64, 64),
    data_type: str = "float32",
    **model_input: Any,
) -> dict[str, Any]:
    """The description of a model that answers with pixels, with `swath:raster` unless None."""
    structure = {"shape": list(shape), "dim_order": ["batch", "bands", "height", "width"]}
    named = [{"value": value, "name": name} for value, name in enumerate(classes, first_class)]
    tensor = {"name": "images", "input": structure | {"data_type": data_type}, **model_input}
    return {
        "mlm:name": "of the tests",
        "mlm:tasks": [task],
        "mlm:input": [tensor],
        "mlm:output": [{"name": "map", "tasks": [task], "classification:classes": named}],
    } | ({} if raster is None else {"swath:raster": dict(raster)})


def oriented_box(
    path: Path,
    *,
    side: int = 64,
    batch: int | str = 1,
    dtype: str = "float32",
    form: str = "raw",
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> Path:
    """A model that finds the oriented box of all pixels brighter than half, as Ultralytics' do.

    The box is the rectangle that has the area's centre and second moments.

    Args:
        path: Its file.
        side: Width and height of its input.
        batch: Size of its batch dimension.
        dtype: Type of its input and output.
        form: `raw` (batch, 6, 1), `transposed` (batch, 1, 6), or `end2end` (batch, 1, 7).
        metadata: Texts of an exporter.
    """
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, NDArray[Any]] = {
        "x": np.arange(side, dtype=np.float32) + 0.5,
        "y": np.arange(side, dtype=np.float32)[:, np.newaxis] + 0.5,
        "plane_axes": np.array([1, 2]),
        "last": np.array([2]),
        "column": np.array([1]),
    }

    def number(given: float) -> str:
        constants[f"number {given}"] = np.array(given, np.float32)
        return f"number {given}"

    def make(kind: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [f"{kind} {len(nodes)}"], **attributes))
        return str(nodes[-1].output[0])

    def mean(values: str) -> str:
        total = make("ReduceSum", make("Mul", bright, values), "plane_axes", keepdims=0)
        return make("Div", total, count)

    def moment(first: str, second: str, means: str) -> str:
        return make("Sub", mean(make("Mul", first, second)), means)

    pixels = make("Cast", "images", to=TensorProto.FLOAT)
    plane = make("ReduceMax", pixels, axes=[1], keepdims=0)
    bright = make("Cast", make("Greater", plane, number(0.5)), to=TensorProto.FLOAT)
    area = make("ReduceSum", bright, "plane_axes", keepdims=0)
    count = make("Max", area, number(1))
    x, y = mean("x"), mean("y")
    pixel = number(1 / 12)  # the second moment of a pixel
    a = make("Add", moment("x", "x", make("Mul", x, x)), pixel)
    b = make("Add", moment("y", "y", make("Mul", y, y)), pixel)
    c2 = make("Mul", moment("x", "y", make("Mul", x, y)), number(2))
    apart = make("Sub", a, b)
    root = make("Sqrt", make("Add", make("Mul", apart, apart), make("Mul", c2, c2)))
    slope = make("Div", c2, make("Max", make("Add", root, apart), number(1e-6)))
    angle = make("Atan", slope)
    both = make("Add", a, b)
    width = make("Sqrt", make("Mul", make("Add", both, root), number(6)))
    least = make("Max", make("Sub", both, root), number(1e-6))
    height = make("Sqrt", make("Mul", least, number(6)))
    found = make("Cast", make("Greater", area, number(0.5)), to=TensorProto.FLOAT)
    score = make("Mul", found, number(0.875))
    columns = [x, y, width, height, score, angle]
    if form == "end2end":
        columns.insert(5, make("Mul", score, number(0)))
    rows = [make("Unsqueeze", each, "column") for each in columns]
    table = make("Concat", *rows, axis=1)
    table = make("Unsqueeze", table, "last" if form == "raw" else "column")
    nodes.append(
        helper.make_node(
            "Cast", [table], ["output0"], to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        )
    )
    shape = (batch, len(columns), 1) if form == "raw" else (batch, 1, len(columns))
    graph = helper.make_graph(
        nodes,
        "oriented",
        [value("images", dtype, (batch, 3, side, side))],
        [value("output0", dtype, shape)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return save(path, graph, metadata=metadata)
