"""Pixel values as a model wants them: scaled, in its type."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import RequestError
from tasks.inference.description.properties import OURS, Properties
from tasks.inference.description.value_scaling import Scaling

AS_THEY_ARE = Scaling(type=None)


def check_type(properties: Properties, dtype: np.dtype[Any]) -> None:
    """Refuse pixels that the description was not written for.

    Raises:
        RequestError: Its numbers are for other pixels.
    """
    known = properties.detector.pixel_types
    if dtype.name not in known:
        raise RequestError(
            f"{OURS}.pixel_types: the image has pixels of type {dtype.name}, and the description "
            f"is for {', '.join(known)}; write mlm:input[0].value_scaling for {dtype.name}, and "
            "name it there."
        )


def rescale(
    values: NDArray[Any],
    scaling: Scaling,
    clip: tuple[float, float] | None,
    target: NDArray[Any],
) -> None:
    """Write scaled values: those that the target's type cannot hold become its nearest.

    Args:
        values: Of any real type.
        scaling: MLM's Value Scaling Object.
        clip: Least and largest value after scaling.
        target: Of the same shape, in the model's type; written.
    """
    if scaling.bounds is not None:
        values = np.clip(values.astype(_exact(values.dtype), copy=False), *scaling.bounds)
    if scaling.offset or scaling.divisor != 1:
        exact = _exact(values.dtype)
        scaled = target if target.dtype == exact else np.empty(values.shape, exact)
        if scaling.offset:
            values = np.subtract(values, scaling.offset, out=scaled, dtype=exact)
        if scaling.divisor != 1:
            values = np.divide(values, scaling.divisor, out=scaled, dtype=exact)
    if clip is not None:
        values = np.clip(values, *clip, dtype=_exact(values.dtype))
    if values is not target:
        _store(values, target)


def _exact(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type to compute in: float32 where it holds every value, else float64."""
    return np.result_type(dtype, np.float32)


def _store(values: NDArray[Any], target: NDArray[Any]) -> None:
    if not np.can_cast(values.dtype, target.dtype, "safe"):
        whole = target.dtype.kind in "iu"
        limits = np.iinfo(target.dtype) if whole else np.finfo(target.dtype)
        values = np.clip(np.rint(values) if whole else values, limits.min, limits.max)
    target[...] = values
