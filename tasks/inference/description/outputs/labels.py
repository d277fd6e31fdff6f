"""Labels that a model answers with, as places among the classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import AnswerError
from tasks.inference.description.mlm import Class


def places(labels: NDArray[Any], classes: Sequence[Class]) -> NDArray[np.int64]:
    """The place among the classes of each label's value.

    Args:
        labels: (n,) values of classes, in any numeric type.
        classes: In the order of their values.

    Raises:
        AnswerError: No class has that value.
    """
    values = np.array([one.value for one in classes], np.float64)
    found = np.searchsorted(values, labels).clip(0, len(values) - 1)
    unknown = values[found] != labels
    if unknown.any():
        raise AnswerError(
            f"The model answered with class {labels[unknown][0]}, which is none of "
            "classification:classes; list it with its value."
        )
    return found.astype(np.int64)
