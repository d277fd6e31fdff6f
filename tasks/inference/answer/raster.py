"""A model's answers in pixels, checked and turned into the map of a tile that is kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import AnswerError
from tasks.inference.endpoint import JsonText, Pixels, RasterFile
from tasks.inference.excerpt import excerpt
from tasks.inference.tile_decoding import decode_tile, is_raster
from tasks.raster.tile_maps import TileMap, band_count, encode_map, probabilities
from tasks.request import RasterOutput
from tasks.request.raster_output import Activation, RasterValues

_ROUNDING = 1e-3  # by which probabilities may lie outside 0 to 1
_WHOLE = (np.uint8, np.uint16)  # of probabilities: their maximum is 1
_FEW_CLASSES = 128  # of which one has more than 1/255, as they add up to 1
_LARGE = 4 << 20  # numbers in an answer; reading them takes some times their memory
_one_large = Lock()  # one large answer is read at a time, to bound the memory


@dataclass(frozen=True, slots=True)
class ViewAnswer:
    """The answer for a view of a tile, not yet checked.

    Attributes:
        answer: What the model answered.
        shape: Height and width of the view, as it was sent.
        back: Turns bands of the view to those of the tile.
    """

    answer: object
    shape: tuple[int, int]
    back: Callable[[NDArray[Any]], NDArray[Any]]


class TileRaster:
    """The raster of a tile, from the answers for its views as they come.

    The only answer is read by `encoded`, so that reading it is no part of the call; those of
    several views are read at once, so that one of them is in memory at a time.

    Attributes:
        views: Number of answers.
        error: Why an answer could not be read, after which no further one is of use; else None.
    """

    def __init__(
        self,
        output: RasterOutput,
        views: int,
        in_image: Callable[[TileMap], TileMap] | None = None,
    ) -> None:
        """Start without an answer.

        Args:
            output: What the answers hold.
            views: How many views of the tile the model is asked for.
            in_image: Makes the map in pixels of the image; None if it is in those already.
        """
        self.views = 0
        self.error: AnswerError | None = None
        self._output, self._wanted, self._in_image = output, views, in_image
        self._only: ViewAnswer | None = None
        self._sum: NDArray[Any] | None = None

    def add(self, answer: ViewAnswer) -> None:
        """Add the answer for a view."""
        self.views += 1
        if self._wanted == 1:
            self._only = answer
            return
        try:
            self._sum = self._added(map_of(answer, self._output))
        except AnswerError as error:
            self.error = error

    def encoded(self) -> bytes:
        """The map of the tile, as it is kept: the mean of all views.

        Raises:
            AnswerError: An answer is no raster, or has another size, type or values than it must.
        """
        if self.error:
            raise self.error
        found = self._mean()
        return encode_map(self._in_image(found) if self._in_image else found)

    def _mean(self) -> TileMap:
        """The mean of the maps of all views."""
        if self._only:
            return map_of(self._only, self._output)
        assert self._sum is not None
        if self._output.has_probabilities:
            self._sum += self.views // 2  # rounds the quotient
            return (self._sum // self.views).astype(np.uint16)
        return (self._sum / self.views).astype(np.float32)

    def _added(self, view: TileMap) -> NDArray[Any]:
        """The sum with a further view.

        It is exact, so that the mean of equal views is each of them: probabilities are whole
        numbers, and float64 holds the sum of eight equal numbers of float32.
        """
        if self._sum is None:
            return view.astype(np.uint32 if self._output.has_probabilities else np.float64)
        self._sum += view
        return self._sum


def answer_bytes(output: RasterOutput, width: int, height: int) -> int:
    """Bytes of an answer in pixels, without compression.

    Args:
        output: What it holds.
        width: Width of the tile in pixels.
        height: Height of the tile in pixels.
    """
    number = 8 if output.values is RasterValues.CLASSES else 4  # int64, as of an argmax; or float32
    return band_count(output) * width * height * number


def map_of(view: ViewAnswer, output: RasterOutput) -> TileMap:
    """The map of a tile by the answer for one view.

    Args:
        view: The answer.
        output: What it holds.

    Raises:
        AnswerError: It is no raster, or has another shape, type or values than `output` says.
    """
    answer, wanted = view.answer, (band_count(output), *view.shape)
    with _one_large if np.prod(wanted) > _LARGE else nullcontext():
        try:
            bands = view.back(_bands_of(answer, partial(_check, output, wanted)))
            if output.has_probabilities:
                return probabilities(_probabilities(bands, output))
            return _values(bands, output) if output.is_values else _classes(bands, output)
        except (AnswerError, ValueError) as error:
            source = f"{answer.source}: " if isinstance(answer, RasterFile | JsonText) else ""
            raise AnswerError(f"{source}{error}") from error


def _bands_of(
    answer: object, check: Callable[[tuple[int, ...], np.dtype[Any]], None]
) -> NDArray[Any]:
    """(bands, height, width) the numbers in an answer.

    A body that begins as a raster is one, whatever its media type.

    Raises:
        AnswerError: The answer is no raster.
        ValueError: It cannot be decoded.
    """
    if isinstance(answer, Pixels):
        check(answer.bands.shape, answer.bands.dtype)
        return answer.bands
    if isinstance(answer, RasterFile | JsonText) and is_raster(answer.body):
        media_type = answer.media_type if isinstance(answer, RasterFile) else None
        return decode_tile(answer.body, media_type, what="The answer", check=check)
    if isinstance(answer, RasterFile):
        what = f"is declared as {answer.media_type} and begins with {answer.body[:12]!r}"
    elif isinstance(answer, JsonText) and not answer.body.lstrip().startswith((b"{", b"[")):
        what = f"begins with {excerpt(answer.body)[:40]!r}"
    else:
        what = "is JSON, as for features"
    raise AnswerError(
        f"The answer {what}, where rasterOutput says that the model answers with a raster: answer "
        "with image/tiff, image/png or application/x-npy, or leave rasterOutput out."
    )


def _check(
    output: RasterOutput, wanted: tuple[int, ...], found: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    """Check that an answer has the bands, the size and the type that it must have.

    Args:
        output: What it holds.
        wanted: Bands, height and width that it must have.
        found: Its shape.
        dtype: Its data type.

    Raises:
        AnswerError: It has others.
    """
    if found == wanted and dtype.kind in "biuf":
        return
    remedy = ""
    if found == (*wanted[1:], wanted[0]):
        remedy = " Put the bands first, as (bands, height, width)."
    elif found != wanted and found[1:] == wanted[1:] and output.values is not RasterValues.CLASSES:
        listed = "bands" if output.is_values else "classes"
        remedy = f" List all of them in rasterOutput.{listed}, or answer with those that it lists."
    raise AnswerError(
        f"The raster has {_described(found)} of {dtype}, where rasterOutput ({output.values}) "
        f"wants {_described(wanted)} of whole or real numbers.{remedy}"
    )


def _described(shape: tuple[int, ...]) -> str:
    if len(shape) != 3:
        return f"the shape {shape}"
    bands = "1 band" if shape[0] == 1 else f"{shape[0]} bands"
    return f"{bands} of {shape[2]} × {shape[1]} pixels"


def _probabilities(bands: NDArray[Any], output: RasterOutput) -> NDArray[np.float32]:
    values = bands.astype(np.float32)
    if not np.isfinite(values).all():
        raise AnswerError(
            f"The raster has {output.values} that are NaN or infinite: give a finite number for "
            "each pixel and class."
        )
    if output.values is RasterValues.PROBABILITIES:
        if bands.dtype in _WHOLE:
            values /= np.float32(_largest(bands, output))
        low, high = float(values.min()), float(values.max())
        if low < -_ROUNDING or high > 1 + _ROUNDING:
            raise AnswerError(
                f"The raster has values from {low:g} to {high:g}, which are no probabilities: "
                "scale them to 0 to 1, or give rasterOutput.values logits."
            )
        return np.clip(values, 0, 1, out=values)
    if output.activation is Activation.SIGMOID:
        np.negative(values, out=values)
        with np.errstate(over="ignore"):  # e to a large number is infinite, and 1 / infinity is 0
            np.exp(values, out=values)
        values += 1
        return np.reciprocal(values, out=values)
    values -= values.max(axis=0)
    np.exp(values, out=values)
    values /= values.sum(axis=0)
    return values


def _largest(bands: NDArray[Any], output: RasterOutput) -> int:
    """What stands for a probability of 1 in 8 or 16 bits: the largest number that they hold.

    Raises:
        AnswerError: They hold zeros and ones alone, though one class is the most probable.
    """
    several = output.activation is Activation.SIGMOID
    if not several and bands.max() == 1 and 1 < len(bands) < _FEW_CLASSES:
        raise AnswerError(
            f"The raster has zeros and ones of {bands.dtype}, of which {np.iinfo(bands.dtype).max} "
            "stands for a probability of 1: answer with bool or float32, or with one band of "
            "numbers and rasterOutput.values classes."
        )
    return int(np.iinfo(bands.dtype).max)


def _values(bands: NDArray[Any], output: RasterOutput) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        values = bands.astype(np.float32)
    if output.nodata is not None:
        values[(bands == output.nodata) | (values == np.float32(output.nodata))] = np.nan
    if np.isinf(values).any():
        raise AnswerError("The raster has infinite values: give finite ones, or NaN for none.")
    return values


def _classes(bands: NDArray[Any], output: RasterOutput) -> TileMap:
    with np.errstate(invalid="ignore"):
        numbers = bands.astype(output.dtype)
    if not np.array_equal(numbers, bands):
        raise AnswerError(
            f"The raster has the class {_first(bands[numbers != bands])}, which is no whole number "
            f"that {output.dtype} holds: number the classes from 0, and list those above 254 in "
            "rasterOutput.classes."
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
