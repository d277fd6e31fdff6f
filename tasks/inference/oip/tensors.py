"""Tensors of the Open Inference Protocol: a name, a datatype, a shape, and data.

Data are binary (little-endian, row-major, contiguous) with the binary tensor data extension of
Triton and KServe, else a JSON list, flat or nested. BYTES (text) and BF16 (unknown to NumPy) are
not supported.
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
"""NumPy's dtype for each datatype of the protocol that Swath supports."""

_NAMES = {dtype: name for name, dtype in DATATYPES.items()}


class TensorParameters(BaseModel):
    """The parameters that the protocol's extensions add to a tensor.

    Attributes:
        binary_data_size: Bytes of its binary data after the JSON; None if its data are JSON.
    """

    binary_data_size: NonNegativeInt | None = None


class OutputTensor(BaseModel):
    """One output of a response; datatype, shape and data are not checked yet.

    Attributes:
        name: Name of the output.
        datatype: The protocol's name of its data type.
        shape: Size of each dimension; most models have the batch dimension first.
        parameters: Parameters of the extensions.
        data: The elements, if they are in the JSON.
    """

    name: str = Field(max_length=1000)
    datatype: str = Field(max_length=100)
    shape: list[NonNegativeInt] = Field(max_length=16)
    parameters: TensorParameters = TensorParameters()
    data: Any = None

    def array(self, tail: memoryview) -> NDArray[Any]:
        """The elements as an array.

        Args:
            tail: The binary data of the response, from the first byte of this tensor.

        Returns:
            An array of the declared shape and datatype; for binary data a read-only view.

        Raises:
            AnswerError: Datatype, shape and data do not match.
        """
        dtype = DATATYPES.get(self.datatype)
        if dtype is None:
            raise AnswerError(
                f"The output {self.name!r} is {self.datatype}, which cannot be decoded: export the "
                f"model with one of {', '.join(DATATYPES)}."
            )
        try:
            return self._elements(dtype, tail).reshape(self.shape)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise AnswerError(
                f"The output {self.name!r} cannot be read as {self.datatype} of shape "
                f"{self.shape}: {error}"
            ) from error

    def _elements(self, dtype: np.dtype[Any], tail: memoryview) -> NDArray[Any]:
        count, size = prod(self.shape), self.parameters.binary_data_size
        if size is None:
            elements = _from_json(self.data, dtype)
            if elements.size != count:
                raise ValueError(f"it has {elements.size} elements, not {count}")
            return elements
        if size != count * dtype.itemsize:
            raise ValueError(f"it has {size} bytes, not {count * dtype.itemsize}")
        if size > len(tail):
            raise ValueError(f"only {len(tail)} of its {size} bytes were received")
        # copied only if unaligned, which would slow down every later step
        return np.require(np.frombuffer(tail, dtype, count), requirements=["A"])


def datatype(dtype: DTypeLike) -> str | None:
    """The protocol's name of a NumPy dtype; None for a dtype that the protocol does not have."""
    return _NAMES.get(np.dtype(dtype).newbyteorder("<"))


def _from_json(data: object, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The elements of a JSON list; null stands for NaN, which JSON does not have.

    Raises:
        ValueError: The elements are not a tensor of that dtype; also TypeError or OverflowError.
    """
    if not isinstance(data, list):
        raise TypeError("its data are not a list")
    if dtype.kind == "f":
        numbers = np.asarray(data)
        if numbers.size and numbers.dtype.kind not in "iufO":
            raise TypeError("its data are not numbers")
        with np.errstate(over="ignore"):  # values beyond the range become infinite
            return numbers.astype(np.float64).astype(dtype)
    # another dtype would round large integers, or truncate fractions
    elements = np.array(data, dtype=object)
    kind = bool if dtype.kind == "b" else int
    if not all(type(element) is kind for element in elements.flat):
        raise TypeError(f"its data are not all {kind.__name__}")
    return elements.astype(dtype)
