"""Tensors as the Open Inference Protocol has them: a name, a datatype, a shape, and data.

Data are bytes (little-endian, row-major, without gaps) by the binary tensor data extension of
Triton and KServe, or else a list of JSON, flat or nested. BYTES, which are texts, and BF16, which
NumPy does not have, are left out.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from pydantic import BaseModel, Field, NonNegativeInt

from tasks.errors import AnswerError

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""NumPy's dtype for each datatype of the protocol that Swath takes."""

_NAMES = {dtype: name for name, dtype in DATATYPES.items()}


class TensorParameters(BaseModel):
    """What the extensions say of a tensor.

    Attributes:
        binary_data_size: Bytes of its data behind the JSON; None where they are in the JSON.
    """

    binary_data_size: NonNegativeInt | None = None


class OutputTensor(BaseModel):
    """One output of a reply, not yet believed.

    Attributes:
        name: Of the output.
        datatype: In the protocol's words.
        shape: With the batch first, for most models.
        parameters: Of the extensions.
        data: The elements, where they are in the JSON.
    """

    name: str = Field(max_length=1000)
    datatype: str = Field(max_length=100)
    shape: list[NonNegativeInt] = Field(max_length=16)
    parameters: TensorParameters = TensorParameters()
    data: Any = None

    def array(self, tail: memoryview) -> NDArray[Any]:
        """Its elements.

        Args:
            tail: What follows the JSON in the reply, from where this tensor's bytes begin.

        Returns:
            Of the shape and datatype that were told; a read-only view of bytes.

        Raises:
            AnswerError: Datatype, shape and data do not fit each other.
        """
        dtype = DATATYPES.get(self.datatype)
        if dtype is None:
            raise AnswerError(
                f"The output {self.name!r} is {self.datatype}, which holds no numbers that can be "
                f"decoded: have the model give one of {', '.join(DATATYPES)}."
            )
        try:
            return self._elements(dtype, tail).reshape(self.shape)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise AnswerError(
                f"The output {self.name!r} cannot be read as {self.datatype} of shape "
                f"{self.shape}: {error}"
            ) from error

    def _elements(self, dtype: np.dtype[Any], tail: memoryview) -> NDArray[Any]:
        count, told = prod(self.shape), self.parameters.binary_data_size
        if told is None:
            elements = _from_json(self.data, dtype)
            if elements.size != count:
                raise ValueError(f"it has {elements.size} elements, not {count}")
            return elements
        if told != count * dtype.itemsize:
            raise ValueError(f"it has {told} bytes, not {count * dtype.itemsize}")
        if told > len(tail):
            raise ValueError(f"only {len(tail)} of its {told} bytes came")
        # what lies off its natural place costs every later step time
        return np.require(np.frombuffer(tail, dtype, count), requirements=["A"])


def datatype(dtype: DTypeLike) -> str | None:
    """The protocol's word for a dtype of NumPy; None where it has none."""
    return _NAMES.get(np.dtype(dtype).newbyteorder("<"))


def _from_json(data: object, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The numbers of a JSON list; null stands for NaN, which JSON does not have.

    Raises:
        ValueError: Or TypeError or OverflowError: they are not a tensor of that dtype.
    """
    if not isinstance(data, list):
        raise TypeError("it has no list of data")
    if dtype.kind == "f":
        numbers = np.asarray(data)
        if numbers.size and numbers.dtype.kind not in "iufO":
            raise TypeError("its data are not numbers")
        with np.errstate(over="ignore"):  # what is too great is infinite
            return numbers.astype(np.float64).astype(dtype)
    elements = np.array(data, dtype=object)  # others would round large integers, or cut fractions
    kind = bool if dtype.kind == "b" else int
    if not all(type(element) is kind for element in elements.flat):
        raise TypeError(f"its data are not all {kind.__name__}")
    return elements.astype(dtype)
