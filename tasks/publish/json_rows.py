"""Numbers as JSON: a whole array by one call, in a piece for each row."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray


def json_rows(array: NDArray[Any]) -> list[bytes]:
    """Each row of an array in JSON, without the row's own outer brackets.

    Args:
        array: (n, …) numbers, which may be NaN: null. A row of a vector is `1.0`, one of a matrix
            `1.0,2.0`, and one of a stack of matrices `1.0,2.0],[3.0,4.0`.
    """
    if not len(array):
        return []
    text = orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)
    depth = array.ndim - 1
    return text[depth + 1 : -depth - 1].split(b"]" * depth + b"," + b"[" * depth)
