"""Recognises families of models by the names and shapes of their inputs and outputs."""

from __future__ import annotations

from tasks.inference.description.inspection.family import Family
from tasks.inference.description.inspection.whole_tiles import recognise_label, recognise_map
from tasks.inference.description.placeholders import placeholder
from tasks.inference.description.signature import ModelSignature, TensorSpec

_STRIDES = (8, 16, 32)
_MOST_BOXES = 1000  # that a model keeps after NMS
_FROM_0_TO_1 = [{"type": "scale", "value": 255}]
_ACTIVATION = "softmax (DETR) or sigmoid (RT-DETR)"


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
        or recognise_map(model, size)
        or recognise_label(model)
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
