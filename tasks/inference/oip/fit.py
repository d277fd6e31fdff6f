"""Whether a served model takes what its description makes of a tile, found before any is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from tasks.errors import RequestError
from tasks.inference.oip.metadata import ServedModel, TensorMetadata
from tasks.inference.oip.tensors import DATATYPES, datatype

_FIELD = "imageProcessorParameters.description"


def check_fit(
    served: ServedModel, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
) -> None:
    """Nothing where the tensors fit the model, as far as its server says what it takes and gives.

    Args:
        served: The model.
        inputs: What is made of one tile, by name.
        outputs: Names of those that are decoded; none for the model's only one.

    Raises:
        RequestError: A name, datatype or shape is another there; or an output is of a datatype
            that cannot be decoded.
    """
    if served.outputs:
        _check_outputs(served.url, {each.name: each for each in served.outputs}, outputs)
    if served.inputs:
        _check_inputs(served.url, {each.name: each for each in served.inputs}, inputs)


def _check_outputs(url: str, told: Mapping[str, TensorMetadata], wanted: Sequence[str]) -> None:
    if not wanted and len(told) > 1:
        raise RequestError(
            f"{_FIELD}: it names no output, and {url} gives {', '.join(told)}; give the name of "
            "the one that is decoded in mlm:output."
        )
    for name in wanted or told:
        if name not in told:
            raise RequestError(
                f"{_FIELD}: it decodes the output {name!r}, and {url} gives {', '.join(told)}; "
                "give the output's name in mlm:output."
            )
        if told[name].datatype not in DATATYPES:
            raise RequestError(
                f"imageProcessor.name: {url} gives {told[name].datatype} in {name!r}, which cannot "
                f"be decoded; have the model give one of {', '.join(DATATYPES)}."
            )


def _check_inputs(
    url: str, told: Mapping[str, TensorMetadata], inputs: Mapping[str, NDArray[Any]]
) -> None:
    if told.keys() != inputs.keys():
        raise RequestError(
            f"{_FIELD}: it makes {', '.join(inputs)} of a tile, and {url} takes {', '.join(told)}; "
            "give the input's name in mlm:input, and serve a model that takes an image alone."
        )
    for name, tensor in inputs.items():
        _check_tensor(url, told[name], tensor)


def _check_tensor(url: str, told: TensorMetadata, tensor: NDArray[Any]) -> None:
    if datatype(tensor.dtype) != told.datatype:
        remedy = (
            f"give the data_type {DATATYPES[told.datatype].name}"
            if told.datatype in DATATYPES
            else f"serve a model that takes one of {', '.join(DATATYPES)}"
        )
        raise RequestError(
            f"{_FIELD}: it makes {tensor.dtype} for {told.name!r}, and {url} takes "
            f"{told.datatype}; {remedy}."
        )
    if not _fits(tensor.shape, told.shape):
        raise RequestError(
            f"{_FIELD}: it makes the shape {list(tensor.shape)} for {told.name!r}, and {url} takes "
            f"{told.shape} (-1 is any); give that shape, the batch included."
        )


def _fits(shape: Sequence[int], told: Sequence[int]) -> bool:
    return len(shape) == len(told) and all(
        known < 0 or side == known for side, known in zip(shape, told, strict=True)
    )
