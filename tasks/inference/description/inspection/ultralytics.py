"""Exports of Ultralytics (YOLOv8 and later, RT-DETR), YOLOv5, YOLOv7 and YOLOv9.

Ultralytics' exporter (`yolo export format=onnx`) writes into the file's metadata: `task`, `names`,
`imgsz` (height, width), `stride`, `channels`, `args` with `nms`, and since 2026 `end2end`. That of
YOLOv5 and its descendants writes `names` and `stride`. All of them take RGB from 0 to 1, padded
with 114 on all sides to keep the aspect ratio; RT-DETR takes stretched images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from tasks.errors import RequestError, UnsupportedTaskError
from tasks.inference.description.detectors.detector import DETECTOR
from tasks.inference.description.inspection.literals import (
    read_flag,
    read_integer,
    read_literal,
    read_names,
    read_size,
    refusal,
)
from tasks.inference.description.signature import ModelSignature, TensorSpec
from tasks.inference.description.tile_head import TILE
from tasks.request.tile_output import TileValues

_MARKS = {"names", "stride"}
_DETECT, _CLASSIFY, _OBB, _SEGMENT, _SEMANTIC = "detect", "classify", "obb", "segment", "semantic"
_NMS_IOU = 0.7  # of Ultralytics' own predictions; that of YOLOv5 is the default of `yolox`, 0.45
_OTHER_TASKS = {
    _SEGMENT: "masks of objects",
    _SEMANTIC: "a class for each pixel",
    "pose": "keypoints",
}
_RT_DETR = re.compile("rt-?detr", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Export:
    """The metadata of an export.

    Attributes:
        title: Name of the model.
        task: What the model does; None for an export of YOLOv5 and its descendants.
        names: Names of the classes, in the order of their values.
        stride: Largest stride of the heads in pixels.
        size: Height and width of the images that it was exported for; None if unknown.
        channels: Number of channels of the input; None if unknown.
        end2end: Whether the output is what remains after NMS, or needs none; None if unknown.
        rt_detr: Whether it is an RT-DETR.
    """

    title: str
    task: str | None
    names: tuple[str, ...]
    stride: int
    size: tuple[int, int] | None
    channels: int | None
    end2end: bool | None
    rt_detr: bool


def is_export(model: ModelSignature) -> bool:
    """Whether a model has the metadata of these exports."""
    return model.metadata.keys() >= _MARKS


def tile_size_of_export(model: ModelSignature) -> int | None:
    """Side in pixels of the tiles that an export is made for; None if it takes any.

    Raises:
        RequestError: The metadata cannot be read.
    """
    return min(read_size(model, "imgsz")) if "imgsz" in model.metadata else None


def describe_export(model: ModelSignature, *, by_name: bool = True) -> dict[str, Any]:
    """The description of an export, complete.

    Args:
        model: The model; `is_export` is True for it.
        by_name: Whether to choose the bands of RGB by their names, not by their order.

    Raises:
        UnsupportedTaskError: Swath does not run models of its task.
        RequestError: The metadata cannot be read, or contradict the inputs and outputs.
    """
    export = _read(model)
    _check_task(model, export)
    input_name, structure = _input(model, export)
    task, head, others = "object-detection", DETECTOR, list[str]()
    if export.task == _CLASSIFY:
        task, head = ("scene-classification", TILE)
        output_name, described = _probabilities(model, export)
    elif export.task == _SEGMENT:
        task = "instance-segmentation"
        output_name, prototypes, described = _masks(model, export)
        others = [prototypes]
    else:
        output_name, output = _output(model)
        detector_of = _oriented_detector if export.task == _OBB else _detector
        described = detector_of(model, export, output_name, output)
    named = by_name and structure["shape"][1] == 3
    return {
        "mlm:name": export.title,
        "mlm:architecture": "RT-DETR" if export.rt_detr else "YOLO",
        "mlm:tasks": [task],
        "mlm:input": [
            {
                "name": input_name,
                "bands": ["red", "green", "blue"] if named else [],
                "input": structure,
                "value_scaling": [{"type": "scale", "value": 255}],
                "resize_type": "interpolation-linear",
            }
        ],
        "mlm:output": [
            {
                "name": output_name,
                "tasks": [task],
                "classification:classes": [
                    {"value": value, "name": name} for value, name in enumerate(export.names)
                ],
            },
            *({"name": name, "tasks": [task]} for name in others),
        ],
        head: described,
    }


def _read(model: ModelSignature) -> _Export:
    metadata = model.metadata
    title = " ".join(metadata.get("description", "").split()) or PurePosixPath(model.name).stem
    end2end = read_flag(read_literal(model, "end2end")) if "end2end" in metadata else None
    if _exported_with_nms(model):
        end2end = True
    return _Export(
        title=title[:200],
        task=metadata.get("task"),
        names=read_names(model, "names"),
        stride=read_integer(model, "stride", most=1024),
        size=read_size(model, "imgsz") if "imgsz" in metadata else None,
        channels=read_integer(model, "channels") if "channels" in metadata else None,
        end2end=end2end,
        rt_detr=bool(_RT_DETR.search(title + metadata.get("head", ""))),
    )


def _exported_with_nms(model: ModelSignature) -> bool:
    """Whether the arguments of the export say so; they may be of any type, and are not needed."""
    try:
        arguments = read_literal(model, "args") if "args" in model.metadata else None
    except RequestError:
        return False
    return isinstance(arguments, Mapping) and arguments.get("nms") is True


def _check_task(model: ModelSignature, export: _Export) -> None:
    task = export.task
    if task is None and any(len(output.shape) == 4 for output in model.outputs.values()):
        task = "segment"  # of YOLOv5: the second output is the prototypes of masks
    if task in {None, _DETECT, _CLASSIFY, _OBB} or (task == export.task == _SEGMENT):
        return
    if task == _SEMANTIC:
        raise refusal(
            model, "task", f"is {task!r}, {_OTHER_TASKS[task]}, which they do not describe whole"
        )
    answers = f", which answers with {_OTHER_TASKS[task]}" if task in _OTHER_TASKS else ""
    raise UnsupportedTaskError(
        f"{model.name}: is a model for the task {str(task)[:40]!r}{answers}, and of Ultralytics' "
        f"tasks Swath runs {_DETECT}, {_OBB}, {_SEGMENT} and {_CLASSIFY}: export a model for one "
        "of them, or serve this one over HTTP and answer with polygons (HTTP_ENDPOINT, "
        "docs/models.md)."
    )


def _input(model: ModelSignature, export: _Export) -> tuple[str, dict[str, Any]]:
    """The name of the input, and its structure."""
    if not model.inputs:
        raise RequestError(f"{model.name}: has no inputs; export it again.")
    name, spec = next(iter(model.inputs.items()))
    if len(spec.shape) != 4 or spec.shape[1] is None or not spec.dtype.startswith("float"):
        raise RequestError(
            f"{model.name}: its input {name!r} has the shape {spec.written_shape} of {spec.dtype}, "
            "and an export of Ultralytics takes floats (batch, bands, height, width); describe it "
            f"in a file: swath models describe {model.name}"
        )
    channels, sides = spec.shape[1], spec.shape[2:]
    if export.channels is not None and export.channels != channels:
        raise _contradiction(model, "channels", f"the input {name!r}", spec)
    if export.size is not None and any(
        declared not in {None, side} for declared, side in zip(sides, export.size, strict=True)
    ):
        raise _contradiction(model, "imgsz", f"the input {name!r}", spec)
    return name, {
        "shape": spec.written_shape,
        "dim_order": ["batch", "bands", "height", "width"],
        "data_type": spec.dtype,
    }


def _output(model: ModelSignature) -> tuple[str, TensorSpec]:
    """The name of the output with all boxes, and its shape; YOLOv5 may have others after it."""
    for name, spec in model.outputs.items():
        if len(spec.shape) == 3:
            return name, spec
    shapes = ", ".join(f"{name} {spec.written_shape}" for name, spec in model.outputs.items())
    raise RequestError(
        f"{model.name}: none of its outputs ({shapes}) has three dimensions, as the boxes of "
        "Ultralytics' models have; export it again, with task detect."
    )


def _masks(model: ModelSignature, export: _Export) -> tuple[str, str, dict[str, Any]]:
    """The names of the outputs with the boxes and with the prototypes, and how they are decoded."""
    name, output = _output(model)
    prototypes = [other for other, spec in model.outputs.items() if len(spec.shape) == 4]
    if not prototypes or (count := model.outputs[prototypes[0]].shape[1]) is None:
        raise RequestError(
            f"{model.name}: none of its outputs has four dimensions, as the prototypes of masks "
            f"have; export it again, with task {_SEGMENT}."
        )
    batch, rows, columns = output.shape
    if rows == 4 + len(export.names) + count:  # the coefficients of the prototypes come last
        rows -= count
    elif columns is not None:
        columns -= count
    boxes = TensorSpec(output.dtype, (batch, rows, columns))
    return name, prototypes[0], _detector(model, export, name, boxes) | {"type": "yolov8-seg"}


def _probabilities(model: ModelSignature, export: _Export) -> tuple[str, dict[str, Any]]:
    """The name of the output with the probabilities of the classes, and what it holds."""
    classes = len(export.names)
    name, spec = next(iter(model.outputs.items()))
    if len(spec.shape) != 2 or spec.shape[1] not in {None, classes}:
        raise _contradiction(model, "names", f"the output {name!r}", spec, f"has {classes} classes")
    return name, {"values": TileValues.PROBABILITIES.value}


def _detector(
    model: ModelSignature, export: _Export, name: str, output: TensorSpec
) -> dict[str, Any]:
    """How the output is decoded, by its shape and the metadata."""
    _, rows, columns = output.shape
    classes = len(export.names)
    padded = {"letterbox": "centre", "strides": [export.stride]}
    raw = {"type": "yolov8"} | padded
    suppressed = raw | {"end2end": True}
    if export.task is None:
        if columns == 5 + classes:  # centre, size, objectness, classes: as a decoded YOLOX
            return {"type": "yolox", "decoded": True} | padded
        if rows == 4 + classes:
            return raw
    elif export.end2end:
        if columns in {None, 6}:
            return suppressed
    elif rows == 4 + classes or (rows is None and columns is None and not export.rt_detr):
        return raw | {"nms_iou_threshold": _NMS_IOU}
    elif columns == 6 and export.end2end is None and not export.rt_detr:  # YOLOv10 before 2026
        return suppressed
    elif columns == 4 + classes or (columns is None and export.rt_detr):
        strides = {"strides": [export.stride]}
        return {"type": "yolov8", "normalized": True, "nms_iou_threshold": 1} | strides
    raise _contradiction(model, "names", f"the output {name!r}", output, f"has {classes} classes")


def _oriented_detector(
    model: ModelSignature, export: _Export, name: str, output: TensorSpec
) -> dict[str, Any]:
    """How oriented boxes are decoded: they have an angle after all else."""
    _, rows, columns = output.shape
    classes = len(export.names)
    padded = {"type": "yolov8-obb", "letterbox": "centre", "strides": [export.stride]}
    if export.end2end:
        if columns in {None, 7}:
            return padded | {"end2end": True}
    elif 5 + classes in {rows, columns} or (rows is None and columns is None):
        return padded | {"nms_iou_threshold": _NMS_IOU}
    raise _contradiction(model, "names", f"the output {name!r}", output, f"has {classes} classes")


def _contradiction(
    model: ModelSignature, key: str, tensor: str, spec: TensorSpec, says: str = ""
) -> RequestError:
    says = says or f"is {model.metadata[key]}"
    return refusal(
        model, key, f"{says}, and {tensor} has the shape {spec.written_shape} (-1 is any size)"
    )
