"""Recognises families of models by the names and shapes of their inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.inference.description.placeholders import placeholder
from tasks.inference.description.signature import ModelSignature, TensorSpec

_STRIDES = (8, 16, 32)
_MOST_BOXES = 1000  # that a model keeps after NMS
_MOST_STRIDE = 32  # of a map
_FROM_0_TO_1 = [{"type": "scale", "value": 255}]
_SCALING = "null for pixels as they are, or a list, as in docs/models.md"
_ACTIVATION = "softmax (DETR) or sigmoid (RT-DETR)"
_MANY_BANDS = {"swath:raster.values": "logits; probabilities if the model ends with a softmax"}
_ONE_BAND = {
    "swath:raster.values": "logits of one class; probabilities if the model ends with a sigmoid; "
    "for a quantity, such as a height, values, with regression in mlm:tasks, "
    "without activation and classification:classes"
}
_PIXEL_TYPES = {
    "swath:raster.pixel_types": "those of the images that value_scaling is for: uint8, uint16, "
    "float32, …"
}
_WHOLE_TILE = {
    "swath:tile.values": "logits; probabilities if the model ends with a softmax; for a vector "
    "embedding with its size, similarity-search in mlm:tasks, and no classification:classes",
    "swath:tile.pixel_types": _PIXEL_TYPES["swath:raster.pixel_types"],
}


@dataclass(frozen=True, slots=True)
class Family:
    """What a model's outputs tell of it.

    Attributes:
        title: The family, in words.
        output: Name of the output that has the classes.
        detector: Its `swath:detector`; None for a model that finds no objects.
        raster: Its `swath:raster`; None for a model that does not answer with pixels.
        tile: Its `swath:tile`; None for a model that does not answer about whole tiles.
        task: MLM's name of its task.
        classes: Number of its classes; None if the output does not tell.
        first_class: Value of the first class.
        scaling: Its `value_scaling`.
        to_check: What is only usual for this family, by field.
    """

    title: str
    output: str
    detector: Mapping[str, Any] | None
    task: str = "object-detection"
    raster: Mapping[str, Any] | None = None
    tile: Mapping[str, Any] | None = None
    classes: int | None = None
    first_class: int = 0
    scaling: Any = None
    to_check: Mapping[str, str] = field(default_factory=dict)


def recognise(
    model: ModelSignature, input_name: str, size: tuple[int, int] | None
) -> Family | None:
    """The family of a model; None if its outputs have unknown names and shapes.

    Args:
        model: The model.
        input_name: The input that is made from a tile.
        size: Width and height of that input; None for any size.
    """
    return (
        _postprocessed(model, input_name)
        or _queries(model)
        or _cells_or_boxes(model, size)
        or _raster(model, size)
        or _label(model)
    )


def _postprocessed(model: ModelSignature, input_name: str) -> Family | None:
    """torchvision, and RT-DETR's own export: boxes, labels and scores."""
    roles = {role: role for role in ("boxes", "labels", "scores")}
    if not roles.keys() <= model.outputs.keys():
        kinds = {_kind(spec): name for name, spec in model.outputs.items()}
        if len(model.outputs) < 3 or not roles.keys() <= kinds.keys():
            return None
        roles = {role: kinds[role] for role in roles}
    renamed = {"outputs": roles} if any(role != name for role, name in roles.items()) else {}
    sizes = [name for name in model.inputs if name != input_name]
    check = {"mlm:input[0].value_scaling": "0 to 1, as usual"}
    if sizes:
        return Family(
            "RT-DETR with its post-processing",
            roles["labels"],
            {"type": "detr", "size_input": sizes[0]} | renamed,
            scaling=_FROM_0_TO_1,
            to_check=check,
        )
    if masks := _masks(model):
        others = renamed.get("outputs", {})
        named = {"outputs": {**others, "masks": masks}} if others or masks != "masks" else {}
        return Family(
            "Mask R-CNN of torchvision",
            roles["labels"],
            {"type": "mask-rcnn"} | named,
            "instance-segmentation",
            first_class=1,
            scaling=_FROM_0_TO_1,
            to_check=check | {"mlm:output": "class 0 is the background, and is not listed"},
        )
    return Family(
        "a detector of torchvision",
        roles["labels"],
        {"type": "torchvision"} | renamed,
        first_class=1,
        scaling=_FROM_0_TO_1,
        to_check=check | {"mlm:output": "class 0 is the background, and is not listed"},
    )


def _masks(model: ModelSignature) -> str | None:
    """The output of torchvision with the masks of objects, (boxes, 1, height, width)."""
    for name, spec in model.outputs.items():
        if len(spec.shape) in {4, 5} and spec.dtype.startswith("float"):
            return name
    return None


def _kind(spec: TensorSpec) -> str | None:
    """The role of an output of torchvision, whose names may be numbers."""
    if len(spec.shape) == 2 and spec.shape[1] == 4:
        return "boxes"
    if len(spec.shape) == 1:
        return "labels" if spec.dtype == "int64" else "scores"
    return None


def _queries(model: ModelSignature) -> Family | None:
    """DETR: logits and boxes of queries."""
    names = list(model.outputs)
    logits = next((name for name in names if name.endswith("logits")), None)
    boxes = next((name for name in names if name.endswith("boxes")), None)
    if logits is None or boxes is None:
        return None
    return Family(
        "DETR, raw queries",
        logits,
        {
            "type": "detr",
            "activation": placeholder(_ACTIVATION),
            "outputs": {"logits": logits, "boxes": boxes},
        },
        scaling=placeholder("z-score with mean and stddev for each band, as it was trained"),
    )


def _cells_or_boxes(model: ModelSignature, size: tuple[int, int] | None) -> Family | None:
    """The YOLOs: one output with a row or a column for each cell, or for each box after NMS."""
    for name, spec in model.outputs.items():
        if len(spec.shape) == 3 and (family := _yolo(name, spec, size)):
            return family
    return None


def _yolo(name: str, spec: TensorSpec, size: tuple[int, int] | None) -> Family | None:
    _, rows, columns = spec.shape
    cells = sum((size[0] // stride) * (size[1] // stride) for stride in _STRIDES) if size else None
    centred = {"letterbox": "centre"}
    check = {
        "mlm:input[0].value_scaling": "0 to 1, as usual for this family",
        "swath:detector.letterbox": "centre, as usual for this family",
    }
    if columns == 6 and rows is not None and rows <= _MOST_BOXES:
        return Family(
            "a YOLO with NMS in the model",
            name,
            {"type": "yolov8", "end2end": True} | centred,
            scaling=_FROM_0_TO_1,
            to_check=check,
        )
    if columns == 7 and rows is not None and rows <= _MOST_BOXES and rows != cells:
        return Family(
            "a YOLO for oriented boxes with NMS in the model",
            name,
            {"type": "yolov8-obb", "end2end": True} | centred,
            scaling=_FROM_0_TO_1,
            to_check=check,
        )
    if columns is not None and columns > 5 and cells is not None and rows == cells:
        return Family(
            "YOLOX",
            name,
            {"type": "yolox", "decoded": False, "channel_order": "BGR", "letterbox": "corner"},
            classes=columns - 5,
            to_check={
                "mlm:input[0].value_scaling": "null, 0 to 255, as YOLOX since 0.1.1",
                "swath:detector.channel_order": "BGR, as YOLOX is trained",
                "swath:detector.decoded": "true after an export with --decode_in_inference",
            },
        )
    if columns is not None and columns > 5 and cells is not None and rows == 3 * cells:
        return Family(
            "YOLOv5 or YOLOv7",
            name,
            {"type": "yolox", "decoded": True} | centred,
            classes=columns - 5,
            scaling=_FROM_0_TO_1,
            to_check=check,
        )
    if rows is not None and rows > 4 and (columns in {None, cells}):
        return Family(
            "YOLOv8 or later",
            name,
            {"type": "yolov8"} | centred,
            classes=rows - 4,
            scaling=_FROM_0_TO_1,
            to_check=check,
        )
    return None


def _raster(model: ModelSignature, size: tuple[int, int] | None) -> Family | None:
    """Models that answer with pixels: a number for each pixel, or one for each of its classes."""
    for name, spec in model.outputs.items():
        bands = _bands(spec, size)
        if bands is None:
            continue
        if bands == 1 and not spec.dtype.startswith("float"):
            raster, check = {"values": "classes"}, {}
        elif bands == 1:
            raster, check = {"values": "logits", "activation": "sigmoid"}, _ONE_BAND
        else:
            raster, check = {"values": "logits"}, _MANY_BANDS
        return Family(
            "a segmentation model (a class for each pixel)",
            name,
            None,
            "semantic-segmentation",
            {**raster, "pixel_types": ["uint8"]},
            classes=None if raster["values"] == "classes" else bands or None,
            first_class=1 if "activation" in raster else 0,
            scaling=placeholder(_SCALING),
            to_check=check | _PIXEL_TYPES,
        )
    return None


def _bands(spec: TensorSpec, size: tuple[int, int] | None) -> int | None:
    """The number of bands of an output in pixels, 0 if it does not tell; None if it is none.

    Args:
        spec: The output.
        size: Width and height of the input; None for any size.
    """
    shape = spec.shape
    if len(shape) == 3:
        whole = spec.dtype != "bool" and not spec.dtype.startswith("float")
        return 1 if whole and _covers(shape[1:], size) else None
    if len(shape) != 4:
        return None
    if _covers(shape[2:], size):
        return shape[1] or 0  # torch leaves all dimensions open after an interpolation
    return shape[3] or 0 if _covers(shape[1:3], size) else None


def _covers(sides: tuple[int | None, ...], size: tuple[int, int] | None) -> bool:
    """Whether sides, height and width, are those of the input or smaller by a stride."""
    if size is None or None in sides:
        return set(sides) == {None}
    return all(
        side is not None and side and whole % side == 0 and whole // side <= _MOST_STRIDE
        for side, whole in zip(sides, reversed(size), strict=True)
    )


def _label(model: ModelSignature) -> Family | None:
    """Models that answer about the whole tile."""
    for name, spec in model.outputs.items():
        if len(spec.shape) == 2 and spec.shape[1] is not None and len(model.outputs) == 1:
            return Family(
                "a classifier (a class for the whole image)",
                name,
                None,
                "classification",
                tile={"values": "logits"},
                classes=spec.shape[1],
                scaling=placeholder(_SCALING),
                to_check=_WHOLE_TILE,
            )
    return None
