"""Numbers as JSON: a whole array by one call, in a piece for each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray


def json_rows(array: NDArray[Any]) -> list[bytes]:
    """Each row of an array in JSON, without brackets around it; NaN is null.

    Args:
        array: (n,) or (n, numbers).
    """
    return _pieces(np.ascontiguousarray(array), array.ndim - 1)


def matrices(rows: NDArray[Any] | Sequence[NDArray[Any]]) -> list[bytes]:
    """Each matrix in JSON, without two brackets around it, such as `1.0,2.0],[3.0,4.0`.

    Args:
        rows: (n, rows, columns), or n matrices.
    """
    return _pieces(np.ascontiguousarray(rows) if isinstance(rows, np.ndarray) else rows, 2)


def _pieces(rows: NDArray[Any] | Sequence[NDArray[Any]], depth: int) -> list[bytes]:
    if not len(rows):
        return []
    text = orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY)
    return text[depth + 1 : -depth - 1].split(b"]" * depth + b"," + b"[" * depth)
