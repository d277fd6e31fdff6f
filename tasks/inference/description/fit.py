"""Checks that a description fits its model: names, types and shapes of inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from tasks.errors import AnswerError, RequestError
from tasks.inference.description.description import Description
from tasks.inference.description.mlm import DataType
from tasks.inference.description.preprocessing.tensor import PreparedTile
from tasks.inference.description.signature import TensorSpec

_DATA_TYPES = get_args(DataType)


def check_fit(
    description: Description,
    sample: PreparedTile,
    model: str,
    inputs: Mapping[str, TensorSpec],
    outputs: Mapping[str, TensorSpec],
) -> None:
    """Check a description against what its model declares, before any tile is sent.

    Args:
        description: The description of the model.
        sample: A tile prepared as all others will be.
        model: The model's file or URL, for the error.
        inputs: All inputs of the model by name; empty if they are not known.
        outputs: All outputs of the model by name; empty if they are not known.

    Raises:
        RequestError: They do not fit; the message has the field of the description and the name,
            type or shape that the model declares.
    """
    if inputs:
        tensors = description.inputs([sample])
        _check_input_names(description, model, list(tensors), list(inputs))
        for name, tensor in tensors.items():
            _check_tensor(description, model, name, tensor, inputs[name])
    if outputs:
        _check_outputs(description, model, outputs)


def check_map(
    description: Description, sample: PreparedTile, outputs: Mapping[str, TensorSpec]
) -> None:
    """Check the shape that a model declares for its map, where the model cannot be tried.

    Args:
        description: The description of the model; of one that finds objects, nothing is checked.
        sample: A tile prepared as all others will be.
        outputs: All outputs of the model by name; empty if they are not known.

    Raises:
        RequestError: It is not the shape of a map of that tile.
    """
    names = description.outputs or tuple(outputs)
    if description.properties.raster is None or not names or names[0] not in outputs:
        return
    spec = outputs[names[0]]
    rows = [len(description.inputs([sample])[description.properties.input.name])]
    batch = rows if description.batched else list(spec.shape[:1])
    shape = [*batch, *spec.shape[1:]]
    if shape.count(None) == len(sides := list(reversed(sample.placement.canvas))):
        shape = [sides.pop(0) if size is None else size for size in shape]
    known = tuple(size for size in shape if size is not None)
    if len(known) < len(shape):
        return
    try:
        blank = np.broadcast_to(np.zeros((), spec.dtype), known)  # of no memory
        description.decode({names[0]: blank}, [sample])
    except AnswerError as error:
        raise RequestError(f"{description.uri}: mlm:output: {error}") from error


def _check_input_names(
    description: Description, model: str, names: Sequence[str], declared: Sequence[str]
) -> None:
    for name in names:
        if name not in declared:
            field = _input_field(description, name, "name")
            raise RequestError(
                f"{description.uri}: {field}: is {name!r}, and the inputs of {model} are "
                f"{', '.join(declared)}; give one of these names."
            )
    for name in declared:
        if name not in names:
            sized = "if it takes the size of the tile's input, name it in swath:detector.size_input"
            remedy = f"{sized}; otherwise " if description.properties.detector else ""
            raise RequestError(
                f"{description.uri}: {model} has an input {name!r} besides the tile; {remedy}"
                "export the model without it."
            )


def _check_tensor(
    description: Description, model: str, name: str, tensor: NDArray[Any], declared: TensorSpec
) -> None:
    if tensor.dtype != declared.dtype:
        remedy = (
            f"give {declared.dtype}"
            if declared.dtype in _DATA_TYPES
            else f"export the model with an input of type {tensor.dtype}"
        )
        raise RequestError(
            f"{description.uri}: {_input_field(description, name, 'input.data_type')}: gives "
            f"{tensor.dtype} for {name!r}, and {model} takes {declared.dtype}; {remedy}."
        )
    if not declared.accepts(tensor.shape):
        raise RequestError(
            f"{description.uri}: {_input_field(description, name, 'input.shape')}: gives the shape "
            f"{list(tensor.shape)} for {name!r}, and {model} takes {declared.written_shape} "
            "(-1 is any size); give that shape, the batch included, with its dim_order."
        )


def _input_field(description: Description, name: str, field: str) -> str:
    """The field of the description that an input's name, type or shape comes from."""
    if name == description.properties.input.name:
        return f"mlm:input[0].{field}"
    return "swath:detector.size_input"


def _check_outputs(
    description: Description, model: str, declared: Mapping[str, TensorSpec]
) -> None:
    if not description.outputs and len(declared) > 1:
        raise RequestError(
            f"{description.uri}: mlm:output[0].name: missing, and the outputs of {model} are "
            f"{', '.join(declared)}; give the one to decode."
        )
    mapped = ", or map it in swath:detector.outputs" if description.properties.detector else ""
    for name in description.outputs or declared:
        if name not in declared:
            raise RequestError(
                f"{description.uri}: mlm:output: the output to decode is {name!r}, and the outputs "
                f"of {model} are {', '.join(declared)}; give one of these names"
                f"{mapped}."
            )
        if declared[name].dtype not in (*_DATA_TYPES, "bool"):
            raise RequestError(
                f"{description.uri}: mlm:output: {model} gives {declared[name].dtype} in {name!r}, "
                f"which cannot be decoded; export the model with one of {', '.join(_DATA_TYPES)}."
            )
