"""Scales pixel values, and casts them to the model's data type."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import RequestError
from tasks.inference.description.properties import Properties
from tasks.inference.description.value_scaling import ValueScaling

NO_SCALING = ValueScaling(type=None)


def check_pixel_type(properties: Properties, dtype: np.dtype[Any]) -> None:
    """Refuse an image with a pixel type for which the value scaling was not written.

    Raises:
        RequestError: `swath:detector.pixel_types` does not list the type.
    """
    known = properties.head.pixel_types
    if dtype.name not in known:
        raise RequestError(
            f"{properties.head.field}.pixel_types: the image has pixels of type {dtype.name}, and "
            f"the value scaling is for {', '.join(known)}; write mlm:input[0].value_scaling for "
            f"{dtype.name}, and add it to pixel_types."
        )


def rescale(
    values: NDArray[Any],
    scaling: ValueScaling,
    clip: tuple[float, float] | None,
    target: NDArray[Any],
) -> None:
    """Scale values into `target`; a value outside the range of its dtype becomes the nearest limit.

    Args:
        values: (…) of any real dtype.
        scaling: MLM's Value Scaling Object.
        clip: Minimum and maximum after scaling, or None.
        target: (…) of the same shape, in the model's dtype; overwritten.
    """
    if scaling.bounds is not None:
        values = np.clip(values.astype(_computing_dtype(values.dtype), copy=False), *scaling.bounds)
    if scaling.offset or scaling.divisor != 1:
        exact = _computing_dtype(values.dtype)
        scaled = target if target.dtype == exact else np.empty(values.shape, exact)
        if scaling.offset:
            values = np.subtract(values, scaling.offset, out=scaled, dtype=exact)
        if scaling.divisor != 1:
            values = np.divide(values, scaling.divisor, out=scaled, dtype=exact)
    if clip is not None:
        values = np.clip(values, *clip, dtype=_computing_dtype(values.dtype))
    if values is not target:
        _cast(values, target)


def _computing_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """float32 if it represents every value of a dtype exactly, else float64."""
    return np.result_type(dtype, np.float32)


def _cast(values: NDArray[Any], target: NDArray[Any]) -> None:
    if not np.can_cast(values.dtype, target.dtype, "safe"):
        whole = target.dtype.kind in "iu"
        limits = np.iinfo(target.dtype) if whole else np.finfo(target.dtype)
        values = np.clip(np.rint(values) if whole else values, limits.min, limits.max)
    target[...] = values
