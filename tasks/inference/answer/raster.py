"""A model's answer in pixels, checked and turned into the map of a tile that is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import AnswerError
from tasks.inference.endpoint import Pixels, RasterFile
from tasks.inference.tile_decoding import decode_tile
from tasks.raster.tile_maps import TileMap, band_count, encode_map, probabilities
from tasks.request import RasterOutput
from tasks.request.raster_output import Activation, RasterValues

_ROUNDING = 1e-3  # by which probabilities may lie outside 0 to 1


@dataclass(frozen=True, slots=True)
class TileRaster:
    """The answers for the views of one tile, in pixels; not yet checked.

    Attributes:
        views: The answer for each view, with what turns its bands to those of the tile itself.
        output: What they hold.
        shape: Height and width of the tile.
    """

    views: tuple[tuple[object, Callable[[NDArray[Any]], NDArray[Any]]], ...]
    output: RasterOutput
    shape: tuple[int, int]

    def encoded(self) -> bytes:
        """The map of the tile, as it is kept.

        Raises:
            AnswerError: An answer is no raster, or has another size, type or values than it must.
        """
        views = [turned(bands_of(answer)) for answer, turned in self.views]
        return encode_map(map_of(views, self.output, self.shape))


def bands_of(answer: object) -> NDArray[Any]:
    """(bands, height, width) the numbers in an answer.

    Raises:
        AnswerError: The answer is no raster, or cannot be decoded.
    """
    if isinstance(answer, Pixels):
        return answer.bands
    if isinstance(answer, RasterFile):
        try:
            return decode_tile(answer.body, answer.media_type)
        except ValueError as error:
            raise AnswerError(f"{answer.source}: {error}") from error
    raise AnswerError(
        "The answer has features, where rasterOutput says that the model answers with a raster: "
        "answer with image/tiff, image/png or application/x-npy, or leave rasterOutput out."
    )


def map_of(views: list[NDArray[Any]], output: RasterOutput, shape: tuple[int, int]) -> TileMap:
    """The map of a tile.

    Args:
        views: (bands, height, width) of each view of the tile, whose mean counts.
        output: What they hold.
        shape: Height and width of the tile.

    Raises:
        AnswerError: They have another shape, type or values than `output` says.
    """
    for bands in views:
        check_shape(bands, output, shape)
    if output.has_probabilities:
        given = [_probabilities(bands, output) for bands in views]
        return probabilities(given[0] if len(given) == 1 else np.mean(given, axis=0))
    if output.is_values:
        values = [_values(bands, output) for bands in views]
        mean: NDArray[np.float32] = values[0] if len(values) == 1 else np.mean(values, axis=0)
        return mean
    return _classes(views[0], output)


def check_shape(bands: NDArray[Any], output: RasterOutput, shape: tuple[int, int]) -> None:
    """Check that an answer has the bands and the size that it must have.

    Raises:
        AnswerError: It has others.
    """
    wanted = band_count(output), *shape
    if bands.shape != wanted or bands.dtype.kind not in "biuf":
        raise AnswerError(
            f"The raster has {_described(bands.shape)} of {bands.dtype}, where rasterOutput "
            f"({output.values}) wants {_described(wanted)}."
        )


def _described(shape: tuple[int, ...]) -> str:
    if len(shape) != 3:
        return f"the shape {shape}"
    bands = "1 band" if shape[0] == 1 else f"{shape[0]} bands"
    return f"{bands} of {shape[2]} × {shape[1]} pixels"


def _probabilities(bands: NDArray[Any], output: RasterOutput) -> NDArray[np.float32]:
    values = bands.astype(np.float32)
    if not np.isfinite(values).all():
        raise AnswerError(f"The raster has {output.values} that are not finite.")
    if output.values is RasterValues.PROBABILITIES:
        low, high = float(values.min()), float(values.max())
        if low < -_ROUNDING or high > 1 + _ROUNDING:
            raise AnswerError(
                f"The raster has values from {low:g} to {high:g}, which are no probabilities: "
                "scale them to 0 to 1, or give rasterOutput.values logits."
            )
        return np.clip(values, 0, 1)
    if output.activation is Activation.SIGMOID:
        with np.errstate(over="ignore"):  # e to a large number is infinite, and 1 / infinity is 0
            sigmoid: NDArray[np.float32] = np.reciprocal(np.exp(-values) + np.float32(1))
            return sigmoid
    values -= values.max(axis=0)
    np.exp(values, out=values)
    values /= values.sum(axis=0)
    return values


def _values(bands: NDArray[Any], output: RasterOutput) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        values = bands.astype(np.float32)
    if output.nodata is not None:
        values[bands == output.nodata] = np.nan
    if np.isinf(values).any():
        raise AnswerError("The raster has infinite values: give finite ones, or NaN for none.")
    return values


def _classes(bands: NDArray[Any], output: RasterOutput) -> TileMap:
    with np.errstate(invalid="ignore"):
        numbers = bands.astype(output.dtype)
    if not np.array_equal(numbers, bands):
        raise AnswerError(
            f"The raster has the class {_first(bands[numbers != bands])}, which is no whole number "
            f"that {output.dtype} holds: list the classes in rasterOutput.classes."
        )
    known = {one.value for one in output.classes} | {int(output.missing)}
    if output.nodata is not None:
        known.add(int(output.nodata))
    if output.classes and (strangers := set(np.unique(numbers).tolist()) - known):
        raise AnswerError(
            f"The raster has the class {min(strangers)}, which rasterOutput.classes does not list: "
            "add it, or give it as rasterOutput.nodata."
        )
    return numbers


def _first(values: NDArray[Any]) -> object:
    return values.flat[0].item()
