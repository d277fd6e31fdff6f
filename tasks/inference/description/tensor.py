"""The input of a model, made of a tile's pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.inference.description.placement import Placement
from tasks.inference.description.properties import Properties
from tasks.inference.description.resample import resized
from tasks.inference.description.scaling import AS_THEY_ARE, rescale

_CHANNELS_FIRST = ("bands", "height", "width")


def make_tensor(
    properties: Properties, pixels: NDArray[Any], bands: Sequence[int], place: Placement
) -> NDArray[Any]:
    """A tile's pixels in the model's dtype and order of dimensions, without the batch axis.

    Args:
        properties: Of the model.
        pixels: (bands, rows, columns).
        bands: Those that go in, from 0, in the model's order.
        place: Where in the input they go.
    """
    given, detector = properties.input, properties.detector
    axes = [axis for axis in given.input.dim_order if axis != "batch"]
    sizes = dict(zip(_CHANNELS_FIRST, (len(bands), place.canvas[1], place.canvas[0]), strict=True))
    tensor = np.empty([sizes[axis] for axis in axes], given.input.data_type)
    channels = tensor.transpose([axes.index(axis) for axis in _CHANNELS_FIRST])
    scalings = given.value_scaling or (AS_THEY_ARE,)
    scalings = scalings * (len(bands) // len(scalings))
    if detector.channel_order == "BGR":  # MLM lists them in the order of its bands
        scalings = scalings[::-1]
    left, top = place.left, place.top
    for channel, band, scaling in zip(channels, bands, scalings, strict=True):
        if place.padded:
            pad = np.empty((), tensor.dtype)
            rescale(np.array(detector.pad_value), scaling, detector.clip, pad)
            channel[...] = pad
        content = channel[top : top + place.content[1], left : left + place.content[0]]
        values = _known(pixels[band], detector.pad_value)
        if place.content == place.tile:
            rescale(values, scaling, detector.clip, content)
            continue
        method = str(given.resize_type).removeprefix("interpolation-")
        for rows, part in resized(values, place.content, method):
            rescale(part, scaling, detector.clip, content[rows])
    return tensor


def _known(values: NDArray[Any], pad_value: float) -> NDArray[Any]:
    """Values without NaN and infinity, which would spread over all that a model answers."""
    if values.dtype.kind != "f":
        return values
    return np.where(np.isfinite(values), values, values.dtype.type(pad_value))
