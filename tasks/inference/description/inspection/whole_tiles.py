"""Recognises models that answer with pixels or about whole tiles, by their outputs' shapes."""

from __future__ import annotations

from tasks.inference.description.inspection.family import Family
from tasks.inference.description.placeholders import placeholder
from tasks.inference.description.signature import ModelSignature, TensorSpec

_MOST_STRIDE = 32  # of a map
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
_SCALING = "null for pixels as they are, or a list, as in docs/models.md"


def recognise_map(model: ModelSignature, size: tuple[int, int] | None) -> Family | None:
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


def recognise_label(model: ModelSignature) -> Family | None:
    """Models that answer about the whole tile."""
    if len(model.outputs) != 1:
        return None
    ((name, spec),) = model.outputs.items()
    if len(spec.shape) != 2 or (size := spec.shape[1]) is None:
        return None
    if "embed" in name.lower():
        return Family(
            "a model of embeddings (a vector for the whole image)",
            name,
            None,
            "similarity-search",
            tile={"values": "embedding", "size": size},
            classes=0,
            scaling=placeholder(_SCALING),
            to_check={"swath:tile.pixel_types": _WHOLE_TILE["swath:tile.pixel_types"]},
        )
    return Family(
        "a classifier (a class for the whole image)",
        name,
        None,
        "classification",
        tile={"values": "logits"},
        classes=size,
        scaling=placeholder(_SCALING),
        to_check=_WHOLE_TILE,
    )
