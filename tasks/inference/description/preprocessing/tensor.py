"""Makes the model's input tensor from a tile's pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.inference.description.preprocessing.placement import Placement
from tasks.inference.description.preprocessing.scaling import NO_SCALING, rescale
from tasks.inference.description.properties import Properties
from tasks.inference.description.resample import Validity, resize

_CHANNELS_FIRST = ("bands", "height", "width")


@dataclass(frozen=True, slots=True)
class PreparedTile:
    """The model's input for a tile.

    Attributes:
        tensor: The input without a batch dimension, contiguous, in the model's dtype and order of
            dimensions.
        placement: Where the tile lies in the input.
    """

    tensor: NDArray[Any]
    placement: Placement


def make_tensor(
    properties: Properties,
    pixels: NDArray[Any],
    bands: Sequence[int],
    placement: Placement,
    valid: NDArray[np.bool_] | None = None,
) -> NDArray[Any]:
    """A tile's pixels in the model's dtype and order of dimensions, without a batch dimension.

    Args:
        properties: The description of the model.
        pixels: (bands, rows, columns) of the tile, in any real dtype, finite.
        bands: Indices of the bands to use, from 0, in the model's order.
        placement: Where the tile lies in the input.
        valid: (rows, columns) False for pixels without data, which hold the fill value; None if
            there are none.
    """
    model_input, head = properties.input, properties.head
    order = [name for name in model_input.input.dim_order if name != "batch"]
    canvas = (len(bands), placement.canvas[1], placement.canvas[0])
    sizes = dict(zip(_CHANNELS_FIRST, canvas, strict=True))
    tensor = np.empty([sizes[name] for name in order], model_input.input.data_type)
    channels = tensor.transpose([order.index(name) for name in _CHANNELS_FIRST])
    scalings = model_input.value_scaling or (NO_SCALING,)
    scalings = scalings * (len(bands) // len(scalings))
    if head.channel_order == "BGR":  # MLM lists scalings in the order of its bands
        scalings = scalings[::-1]
    left, top = placement.left, placement.top
    resized = placement.content != placement.tile
    resizing = Validity.of(valid).resize if resized and valid is not None else resize
    for channel, band, scaling in zip(channels, bands, scalings, strict=True):
        if placement.padded:
            pad = np.empty((), tensor.dtype)
            rescale(np.array(head.pad_value), scaling, head.clip, pad)
            channel[...] = pad
        content = channel[top : top + placement.content[1], left : left + placement.content[0]]
        if not resized:
            rescale(pixels[band], scaling, head.clip, content)
            continue
        method = str(model_input.resize_type).removeprefix("interpolation-")
        for rows, part in resizing(pixels[band], placement.content, method):
            rescale(part, scaling, head.clip, content[rows])
    return tensor
