"""The layers of a raster: the files that it is published in, and the pixels of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.raster.painting import Painted
from tasks.request.raster_output import RasterOutput, Scores

MAP, SCORES, CONFIDENCE = "raster", "scores", "confidence"
"""The class map or the values, the probabilities of every class, and that of each pixel's own."""

_STEPS = 254  # of a probability in 8 bits; 255 has no answer


@dataclass(frozen=True)
class Layer:
    """A raster in one file.

    Attributes:
        name: `MAP` or `SCORES`.
        bands: Description of each band.
        dtype: Data type of the pixels.
        nodata: Number of a pixel without an answer; NaN for NaN.
        categorical: Whether the numbers are those of classes, which have no average.
        scale: What a number is multiplied by to be a probability or value.
        unit: Unit of the values; empty for none.
    """

    name: str
    bands: Sequence[str]
    dtype: np.dtype[Any]
    nodata: float
    categorical: bool = False
    scale: float = 1.0
    unit: str = ""

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel, all bands together."""
        return len(self.bands) * self.dtype.itemsize

    def valid(self, pixels: NDArray[Any]) -> NDArray[np.bool_]:
        """Which pixels have an answer."""
        valid: NDArray[np.bool_] = (
            ~np.isnan(pixels) if np.isnan(self.nodata) else pixels != self.nodata
        )
        return valid


def layers_of(output: RasterOutput) -> tuple[Layer, ...]:
    """The layers that a request wants, the map first."""
    if output.is_values:
        names, unit = output.bands or ("value",), output.unit or ""
        return (Layer(MAP, names, output.dtype, output.missing, unit=unit),)
    classes = Layer(MAP, ("class",), output.dtype, output.missing, categorical=True)
    names = tuple(one.name for one in output.classes)
    match output.scores:
        case Scores.NONE:
            return (classes,)
        case Scores.UINT8:
            scores = Layer(SCORES, names, np.dtype(np.uint8), _STEPS + 1, scale=1 / _STEPS)
        case Scores.FLOAT32:
            scores = Layer(SCORES, names, np.dtype(np.float32), float("nan"))
    return classes, scores


def stored_layers(output: RasterOutput) -> tuple[Layer, ...]:
    """The layers that are painted: those that a request wants, and what polygons need."""
    layers = layers_of(output)
    if output.polygons is None or not output.has_probabilities:
        return layers
    own = Layer(CONFIDENCE, ("probability",), np.dtype(np.uint8), _STEPS + 1, scale=1 / _STEPS)
    return *layers, own


def pixels_of(painted: Painted, output: RasterOutput) -> Mapping[str, NDArray[Any]]:
    """The pixels of each layer, (bands, height, width), by the layer's name."""
    pixels: dict[str, NDArray[Any]] = {}
    for layer in stored_layers(output):
        if layer.name == CONFIDENCE:
            bands = np.rint(painted.bands.max(axis=0, keepdims=True) * _STEPS)
        elif layer.name == SCORES and layer.dtype == np.uint8:
            bands = np.rint(painted.bands * _STEPS)
        elif layer.name == SCORES or output.is_values:
            bands = painted.bands
        else:
            bands = _classes(painted, output)[np.newaxis]
        pixels[layer.name] = np.where(painted.seen, bands, layer.nodata).astype(layer.dtype)
    return pixels


def _classes(painted: Painted, output: RasterOutput) -> NDArray[np.float64]:
    """(height, width) the number of each pixel's class: the first of several equals."""
    if not output.has_probabilities:
        numbers = painted.bands[0]
        return numbers if output.nodata is None else _without(numbers, output)
    highest = painted.bands[0].copy()
    chosen = np.full(highest.shape, float(output.classes[0].value))
    for one, band in zip(output.classes[1:], painted.bands[1:], strict=True):
        higher = band > highest
        chosen[higher] = one.value
        highest[higher] = band[higher]
    if output.several:
        chosen[highest < output.threshold] = 0.0
    return chosen


def _without(numbers: NDArray[np.float64], output: RasterOutput) -> NDArray[np.float64]:
    return np.where(numbers == output.nodata, output.missing, numbers)
