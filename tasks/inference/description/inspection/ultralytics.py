"""Exports of Ultralytics (YOLOv8 and later, RT-DETR), YOLOv5, YOLOv7 and YOLOv9.

Ultralytics' exporter (`yolo export format=onnx`) writes into the file's metadata: `task`, `names`,
`imgsz` (height, width), `stride`, `channels`, `args` with `nms`, and since 2026 `end2end`. That of
YOLOv5 and its descendants writes `names` and `stride`. All of them take RGB from 0 to 1, padded
with 114 on all sides to keep the aspect ratio; RT-DETR takes stretched images.
"""

from __future__ import annotations

from typing import Any

from tasks.errors import RequestError, UnsupportedTaskError
from tasks.inference.description.detectors.detector import DETECTOR
from tasks.inference.description.inspection.export_heads import (
    boxes_output,
    detector_of,
    masks_of,
    oriented_detector_of,
    probabilities_of,
)
from tasks.inference.description.inspection.export_metadata import (
    Export,
    contradiction,
    read_export,
)
from tasks.inference.description.inspection.literals import read_size, refusal
from tasks.inference.description.signature import ModelSignature
from tasks.inference.description.tile_head import TILE

_DEPTH = "depth"
_MARKS = {"names", "stride"}
_DETECT, _CLASSIFY, _OBB, _SEGMENT, _SEMANTIC = "detect", "classify", "obb", "segment", "semantic"
_OTHER_TASKS = {
    _SEGMENT: "masks of objects",
    _SEMANTIC: "a class for each pixel",
    _DEPTH: "a distance for each pixel",
    "pose": "keypoints",
}


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
    export = read_export(model)
    _check_task(model, export)
    input_name, structure = _input(model, export)
    task, head, others = "object-detection", DETECTOR, list[str]()
    if export.task == _CLASSIFY:
        task, head = ("scene-classification", TILE)
        output_name, described = probabilities_of(model, export)
    elif export.task == _SEGMENT:
        task = "instance-segmentation"
        output_name, prototypes, described = masks_of(model, export)
        others = [prototypes]
    else:
        output_name, output = boxes_output(model)
        decoded = oriented_detector_of if export.task == _OBB else detector_of
        described = decoded(model, export, output_name, output)
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


def _check_task(model: ModelSignature, export: Export) -> None:
    task = export.task
    if task in {_SEMANTIC, _DEPTH}:
        raise refusal(
            model, "task", f"is {task!r}, {_OTHER_TASKS[task]}, which they do not describe whole"
        )
    # the second output of a YOLOv5 for masks is their prototypes
    masks = task is None and any(len(output.shape) == 4 for output in model.outputs.values())
    if task in {None, _DETECT, _CLASSIFY, _OBB, _SEGMENT} and not masks:
        return
    kind = "YOLOv5" if masks else "model"
    named = _SEGMENT if masks else str(task)[:40]
    answers = f", which answers with {_OTHER_TASKS[named]}" if named in _OTHER_TASKS else ""
    raise UnsupportedTaskError(
        f"{model.name}: is a {kind} for the task {named!r}{answers}, and of Ultralytics' tasks "
        f"Swath runs {_DETECT}, {_OBB}, {_SEGMENT} (YOLOv8 and later) and {_CLASSIFY}: export a "
        "model for one of them, or serve this one over HTTP and answer with polygons "
        "(HTTP_ENDPOINT, docs/models.md)."
    )


def _input(model: ModelSignature, export: Export) -> tuple[str, dict[str, Any]]:
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
        raise contradiction(model, "channels", f"the input {name!r}", spec)
    if export.size is not None and any(
        declared not in {None, side} for declared, side in zip(sides, export.size, strict=True)
    ):
        raise contradiction(model, "imgsz", f"the input {name!r}", spec)
    return name, {
        "shape": spec.written_shape,
        "dim_order": ["batch", "bands", "height", "width"],
        "data_type": spec.dtype,
    }
