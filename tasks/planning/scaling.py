"""The numbers of a scaling that are found in the image: once, before any tile is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.errors import RequestError
from tasks.imagery import Image
from tasks.imagery.reading.reduced import read_reduced
from tasks.inference.preparation import band_numbers
from tasks.request import Request, ScalingType

_SIDE = 2048  # pixels of the longer side of what is read; up to twice as many
_ROUNDING = 1e-9  # of percentiles, relative: a band of one value has no range
_SAMPLES = 64  # pixels along the side of a block, of an image that is too large to be read whole


def resolve_scaling(request: Request, image: Image) -> Request:
    """The request, with the numbers of its scaling in place of what it says of the whole image.

    They are computed from the smallest overview that has enough pixels, of the pixels that hold
    data; of a large image without overviews, from a sample of its blocks. So all regions scale
    their tiles alike.

    Args:
        request: The message.
        image: One of its images.

    Raises:
        RequestError: The image has no such numbers, or lacks a band.
        ImageError: It cannot be read.
    """
    scaling = request.image_scaling
    if scaling is None or all(scaling.numbers):
        return request
    if image.palette or np.dtype(image.dtype).kind == "c":
        return request  # refused by `preparation_of`, with the reason
    values = _values(request, image, band_numbers(request, image))
    if scaling.type is ScalingType.PERCENTILE:
        shares = [scaling.lower, scaling.upper]
        ends = [np.percentile(band, shares).tolist() for band in values]
        first, second = zip(*ends, strict=True)
        second = tuple(b if b - a > _ROUNDING * abs(a) else a + 1 for a, b in ends)
    else:
        first = tuple(float(band.mean()) for band in values)
        second = tuple(float(band.std()) or 1.0 for band in values)
    found = scaling.with_numbers(first, second)
    return request.model_copy(update={"image_scaling": found})


def _values(request: Request, image: Image, bands: Sequence[int]) -> list[NDArray[np.float64]]:
    """The values of the pixels that hold data, of each band."""
    found = read_reduced(image, _SIDE, request.image_read_role, bands=bands, samples=_SAMPLES)
    if found is None:
        raise RequestError(
            f"imageScaling: {image.url} is too large, and stored so that no part of it can be read "
            "alone, so its percentiles and means are not known; give linear with minimum and "
            "maximum, or z-score with mean and stddev."
        )
    pixels = [band[found.valid].astype(np.float64) for band in found.pixels]
    values = [band[np.isfinite(band)] for band in pixels]
    if not all(map(len, values)):
        raise RequestError(
            f"imageScaling: no pixel of {image.url} that was read for its percentiles and means "
            "holds data; give linear with minimum and maximum, or z-score with mean and stddev."
        )
    return values
