"""How the outputs of exports of Ultralytics are decoded, by their shapes and metadata."""

from __future__ import annotations

from typing import Any

from tasks.errors import RequestError
from tasks.inference.description.inspection.export_metadata import Export, contradiction
from tasks.inference.description.signature import ModelSignature, TensorSpec
from tasks.request.tile_output import TileValues

_NMS_IOU = 0.7  # of Ultralytics' own predictions; that of YOLOv5 is the default of `yolox`, 0.45
_BEST_QUERIES = (8, 4, 47)  # version since which RT-DETR selects pairs of query and class


def boxes_output(model: ModelSignature) -> tuple[str, TensorSpec]:
    """The name of the output with all boxes, and its shape; YOLOv5 may have others after it."""
    for name, spec in model.outputs.items():
        if len(spec.shape) == 3:
            return name, spec
    shapes = ", ".join(f"{name} {spec.written_shape}" for name, spec in model.outputs.items())
    raise RequestError(
        f"{model.name}: none of its outputs ({shapes}) has three dimensions, as the boxes of "
        "Ultralytics' models have; export it again, with task detect."
    )


def masks_of(model: ModelSignature, export: Export) -> tuple[str, str, dict[str, Any]]:
    """The names of the outputs with the boxes and with the prototypes, and how they are decoded."""
    name, output = boxes_output(model)
    prototypes = [other for other, spec in model.outputs.items() if len(spec.shape) == 4]
    if not prototypes or (count := model.outputs[prototypes[0]].shape[1]) is None:
        raise RequestError(
            f"{model.name}: none of its outputs has four dimensions, as the prototypes of masks "
            "have; export it again, with task segment."
        )
    batch, rows, columns = output.shape
    if rows == 4 + len(export.names) + count:  # the coefficients of the prototypes come last
        rows -= count
    elif columns is not None:
        columns -= count
    boxes = TensorSpec(output.dtype, (batch, rows, columns))
    return name, prototypes[0], detector_of(model, export, name, boxes) | {"type": "yolov8-seg"}


def probabilities_of(model: ModelSignature, export: Export) -> tuple[str, dict[str, Any]]:
    """The name of the output with the probabilities of the classes, and what it holds."""
    classes = len(export.names)
    name, spec = next(iter(model.outputs.items()))
    if len(spec.shape) != 2 or spec.shape[1] not in {None, classes}:
        raise contradiction(model, "names", f"the output {name!r}", spec, f"has {classes} classes")
    return name, {"values": TileValues.PROBABILITIES.value}


def detector_of(
    model: ModelSignature, export: Export, name: str, output: TensorSpec
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
    elif queries := _queries(export, columns):
        return queries
    raise contradiction(model, "names", f"the output {name!r}", output, f"has {classes} classes")


def _queries(export: Export, columns: int | None) -> dict[str, Any] | None:
    """How the queries of an RT-DETR are decoded; None if the output is of none.

    Later versions give each box a score and a class; earlier ones gave it a score per class.

    Args:
        export: Its metadata.
        columns: Numbers of each box; None if unknown.
    """
    per_class = 4 + len(export.names)
    open_columns = columns is None and export.rt_detr
    later = export.version is not None and export.version >= _BEST_QUERIES
    queries = {"type": "yolov8", "normalized": True, "strides": [export.stride]}
    if (columns == 6 and (later or per_class != 6)) or (open_columns and later):
        return queries | {"end2end": True, "box_format": "cxcywh"}
    if columns == per_class or open_columns:
        return queries | {"nms_iou_threshold": 1}
    return None


def oriented_detector_of(
    model: ModelSignature, export: Export, name: str, output: TensorSpec
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
    raise contradiction(model, "names", f"the output {name!r}", output, f"has {classes} classes")
