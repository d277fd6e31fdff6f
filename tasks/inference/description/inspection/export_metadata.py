"""The metadata of exports of Ultralytics: which model it is, and what was exported of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from tasks.errors import RequestError
from tasks.inference.description.inspection.literals import (
    read_flag,
    read_integer,
    read_literal,
    read_names,
    read_size,
    refusal,
)
from tasks.inference.description.signature import ModelSignature, TensorSpec

_RT_DETR = re.compile("rt-?detr", re.IGNORECASE)
_VERSION = re.compile(r"(\d{1,4})\.(\d{1,4})\.(\d{1,6})")


@dataclass(frozen=True, slots=True)
class Export:
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
        version: That of Ultralytics; None if it is not said.
    """

    title: str
    task: str | None
    names: tuple[str, ...]
    stride: int
    size: tuple[int, int] | None
    channels: int | None
    end2end: bool | None
    rt_detr: bool
    version: tuple[int, ...] | None


def read_export(model: ModelSignature) -> Export:
    """The metadata of an export.

    Raises:
        RequestError: They cannot be read.
    """
    metadata = model.metadata
    title = " ".join(metadata.get("description", "").split()) or PurePosixPath(model.name).stem
    end2end = read_flag(read_literal(model, "end2end")) if "end2end" in metadata else None
    version = _VERSION.match(metadata.get("version", ""))
    if _exported_with_nms(model):
        end2end = True
    return Export(
        title=title[:200],
        task=metadata.get("task"),
        names=read_names(model, "names"),
        stride=read_integer(model, "stride", most=1024),
        size=read_size(model, "imgsz") if "imgsz" in metadata else None,
        channels=read_integer(model, "channels") if "channels" in metadata else None,
        end2end=end2end,
        rt_detr=bool(_RT_DETR.search(title + metadata.get("head", ""))),
        version=tuple(map(int, version.groups())) if version else None,
    )


def _exported_with_nms(model: ModelSignature) -> bool:
    """Whether the arguments of the export say so; they may be of any type, and are not needed."""
    try:
        arguments = read_literal(model, "args") if "args" in model.metadata else None
    except RequestError:
        return False
    return isinstance(arguments, Mapping) and arguments.get("nms") is True


def contradiction(
    model: ModelSignature, key: str, tensor: str, spec: TensorSpec, says: str = ""
) -> RequestError:
    """The error about a metadata entry that a tensor's shape contradicts.

    Args:
        model: The model.
        key: The entry.
        tensor: The input or the output, in words.
        spec: Its type and shape.
        says: What the entry says, in words; "" for its own text.
    """
    says = says or f"is {model.metadata[key]}"
    return refusal(
        model, key, f"{says}, and {tensor} has the shape {spec.written_shape} (-1 is any size)"
    )
