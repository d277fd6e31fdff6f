"""A description of any model, as far as its file tells, with placeholders for the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, get_args

from tasks.errors import RequestError
from tasks.inference.description.detectors.detector import DETECTOR
from tasks.inference.description.inspection.families import recognise
from tasks.inference.description.inspection.family import Family
from tasks.inference.description.inspection.literals import read_names
from tasks.inference.description.mlm import DataType
from tasks.inference.description.mlm_tasks import RUN
from tasks.inference.description.placeholders import placeholder
from tasks.inference.description.raster_head import RASTER
from tasks.inference.description.signature import ModelSignature, TensorSpec
from tasks.inference.description.tile_head import TILE

_CHANNELS = (3, 4, 1, 2)  # of an input, the most usual first
_FIRST, _LAST = ("batch", "bands", "height", "width"), ("batch", "height", "width", "bands")
_RGB = ["red", "green", "blue"]
_UNKNOWN_TASK = "object-detection"


@dataclass(frozen=True)
class Draft:
    """A description that was drafted from a model's file.

    Attributes:
        document: The description, JSON.
        title: What kind of model it is, in words; empty if that is unknown.
        to_check: What was only guessed, by field.
        runs: Whether Swath runs models of this task.
    """

    document: dict[str, Any]
    title: str = ""
    to_check: Mapping[str, str] = field(default_factory=dict)
    runs: bool = True


def draft_description(model: ModelSignature, class_names: Sequence[str] = ()) -> Draft:
    """Describe a model by the names and shapes of its inputs and outputs.

    Args:
        model: The model, of any exporter.
        class_names: The names of its classes, in its order; placeholders stand for them if empty.

    Raises:
        RequestError: It has no input that a tile could be made into, or another number of classes.
    """
    name, spec = _image_input(model)
    order = _order(spec)
    family = recognise(model, name, _size(spec, order))
    task = family.task if family else _UNKNOWN_TASK
    document: dict[str, Any] = {
        "mlm:name": PurePosixPath(model.name).stem,
        "mlm:architecture": family.title if family and family.detector else "unknown",
        "mlm:tasks": [task],
        "mlm:input": [_input(name, spec, order, family)],
        "mlm:output": _outputs(model, family, task, class_names),
    }
    if family is None:
        kinds = placeholder(
            "yolox, yolov8, yolov8-obb, yolov8-seg, detr, torchvision or mask-rcnn, whichever "
            "decodes the outputs; for a model that finds no objects, swath:raster or swath:tile in "
            "its place, as in docs/models.md"
        )
        document[DETECTOR] = {"type": kinds}
    elif family.detector is not None:
        document[DETECTOR] = dict(family.detector)
    elif family.raster is not None:
        document[RASTER] = dict(family.raster)
    elif family.tile is not None:
        document[TILE] = dict(family.tile)
    to_check = dict(family.to_check) if family else {}
    if document["mlm:input"][0]["bands"]:
        to_check["mlm:input[0].bands"] = "red, green, blue, as usual for three bands"
    elif RASTER in document:
        to_check["mlm:input[0].bands"] = (
            "the image's own, all of them; for an image with others, their names, or their numbers "
            f"in {RASTER}.bands"
        )
    return Draft(document, family.title if family else "", to_check, runs=task in RUN)


def _image_input(model: ModelSignature) -> tuple[str, TensorSpec]:
    if not model.outputs:
        raise RequestError(f"{model.name}: has no outputs; export it again.")
    for name, spec in model.inputs.items():
        if len(spec.shape) in {3, 4}:
            return name, spec
    shapes = ", ".join(f"{name} {spec.written_shape}" for name, spec in model.inputs.items())
    raise RequestError(
        f"{model.name}: none of its inputs ({shapes or 'it has none'}) has the dimensions of an "
        "image; Swath runs models that take images."
    )


def _order(spec: TensorSpec) -> tuple[str, ...] | None:
    """The dimensions in the model's order; None if the shape does not tell."""
    sides = spec.shape[-3:]
    first, last = sides[0] in _CHANNELS, sides[2] in _CHANNELS
    if first == last:
        return None
    return (_FIRST if first else _LAST)[-len(spec.shape) :]


def _size(spec: TensorSpec, order: tuple[str, ...] | None) -> tuple[int, int] | None:
    """Width and height of the input; None for any size."""
    if order is None:
        return None
    sides = dict(zip(order, spec.shape, strict=True))
    width, height = sides["width"], sides["height"]
    return None if width is None or height is None else (width, height)


def _input(
    name: str, spec: TensorSpec, order: tuple[str, ...] | None, family: Family | None
) -> dict[str, Any]:
    dim_order: Any = placeholder("the names batch, bands, height, width in the order of the shape")
    bands = spec.shape[order.index("bands")] if order else None
    data_type = spec.dtype
    if data_type not in get_args(DataType):
        data_type = placeholder(f"a type of NumPy; the model says {spec.dtype}")
    scaling = "null for 0 to 255, or a list: scale by 255 for 0 to 1, z-score with mean and stddev"
    return {
        "name": name,
        "bands": _RGB if bands == 3 else [],
        "input": {
            "shape": spec.written_shape,
            "dim_order": list(order) if order else dim_order,
            "data_type": data_type,
        },
        "value_scaling": family.scaling if family else placeholder(scaling),
        # small images are reflected to a map's input, not resized
        "resize_type": None if family and family.raster else "interpolation-linear",
    }


def _outputs(
    model: ModelSignature, family: Family | None, task: str, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    """The outputs; the one with the classes is the first, which Swath decodes."""
    first = family.output if family else next(iter(model.outputs))
    names = [first, *(name for name in model.outputs if name != first)]
    outputs = [_output(name, model.outputs[name], task) for name in names]
    if family is None or family.classes != 0:
        outputs[0]["classification:classes"] = _classes(model, family, class_names)
    return outputs


def _output(name: str, spec: TensorSpec, task: str) -> dict[str, Any]:
    dimensions = [f"dimension {index}" for index in range(len(spec.shape))]
    result = {"shape": spec.written_shape, "dim_order": dimensions, "data_type": spec.dtype}
    return {"name": name, "tasks": [task], "result": result}


def _classes(
    model: ModelSignature, family: Family | None, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    first, count = (family.first_class, family.classes) if family else (0, None)
    names = list(class_names)
    if names and count not in {None, len(names)}:
        raise RequestError(
            f"class names: {len(names)} are given, and {model.name} has {count} classes; give one "
            "name for each, in the order of the model."
        )
    if not names and "names" in model.metadata:
        with suppress(RequestError):
            names = list(read_names(model, "names"))
    if not names or count not in {None, len(names)}:
        names = [placeholder(f"name of class {first + index}") for index in range(count or 1)]
    return [{"value": first + index, "name": name} for index, name in enumerate(names)]
