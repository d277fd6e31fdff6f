"""Models that answer with pixels: what their output holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat

from tasks.errors import AnswerError
from tasks.inference.description.head import Fraction, Head, find_output
from tasks.inference.description.mlm import Class
from tasks.request.raster_output import Activation, RasterValues

RASTER = "swath:raster"
_PIXELS = "pixels"
_ROUNDING = 2e-3  # of probabilities in half precision


class RasterHead(Head):
    """An output of one number for each pixel and class, or for each pixel.

    It is (batch, bands, height, width) or (batch, height, width, bands); with one band, also
    (batch, height, width). One that is smaller than the input, as of a model with a stride, is
    enlarged to it: linearly, or by the nearest pixel for numbers of classes.

    Attributes:
        values: What the numbers are.
        activation: What turns logits into probabilities.
        threshold: With sigmoid, the probability below which a pixel has no class.
        names: For values, the name of each band.
        unit: For values, their unit.
        nodata: The number of a pixel without an answer.
    """

    field: ClassVar[str] = RASTER

    values: RasterValues = RasterValues.LOGITS
    activation: Activation = Activation.SOFTMAX
    threshold: Fraction = 0.5
    names: tuple[str, ...] = ()
    unit: str | None = None
    nodata: FiniteFloat | None = None

    @property
    def roles(self) -> Mapping[str, int]:
        """The one output that is decoded, batch and bands included."""
        return {_PIXELS: 4}

    def check_classes(self, classes: Sequence[Class]) -> None:
        """Check that the classes go with what the bands hold.

        Raises:
            ValueError: They do not; the message has the field and the remedy.
        """
        if self.values in {RasterValues.CLASSES, RasterValues.VALUES}:
            return
        if self.activation is Activation.SIGMOID and any(one.value == 0 for one in classes):
            raise ValueError(
                "mlm:output: classification:classes has the value 0, which with sigmoid is that of "
                "a pixel without a class; list only the classes that have a band, from 1"
            )
        if self.activation is Activation.SOFTMAX and len(classes) == 1:
            raise ValueError(
                f"{RASTER}.activation: softmax over one class is 1 everywhere; give sigmoid, or "
                "list all classes in mlm:output"
            )

    def decode(
        self,
        outputs: Mapping[str, NDArray[Any]],
        name: str | None,
        classes: int,
        tiles: int,
        rows: int | None,
    ) -> NDArray[Any]:
        """(tiles, bands, height, width) the bands of each tile, in pixels of the output.

        Args:
            outputs: The model's outputs by name.
            name: The one to decode; None for the only one.
            classes: Number of the model's classes.
            tiles: Number of tiles in the call.
            rows: Size of the batch dimension of the call; None for a model without one.

        Raises:
            AnswerError: The output is missing, has other dimensions, or does not have as many bands
                as there are classes or values.
        """
        bands, (chosen, tensor) = self.band_count(classes), find_output(outputs, _PIXELS, name)
        shape = tensor.shape
        if bands == 1 and (shape[:1] == (rows,) and len(shape) == 3):
            tensor = tensor[:, np.newaxis]
        elif bands == 1 and tiles == 1 and len(shape) == 2:
            tensor = tensor[np.newaxis, np.newaxis]
        elif tiles == 1 and len(shape) == 3:
            tensor = tensor[np.newaxis]
        if tensor.ndim != 4 or len(tensor) < tiles:
            raise AnswerError(
                f"Output {chosen!r} has the shape {shape}; a map of {tiles} tiles must have 4 "
                "dimensions: batch, bands, height, width (batch, height, width with one band)."
            )
        if tensor.shape[1] != bands:
            if tensor.shape[3] != bands:
                raise AnswerError(
                    f"Output {chosen!r} has the shape {shape}, and it must have {_count(bands)}, "
                    f"first or last, for {RASTER}.values {self.values}; {self._remedy(classes)}."
                )
            tensor = tensor.transpose(0, 3, 1, 2)
        return tensor[:tiles]

    def check_values(self, bands: NDArray[Any]) -> None:
        """Check that the numbers of a tile may be what `values` says, as far as they tell.

        Args:
            bands: (bands, height, width) of the tile.

        Raises:
            AnswerError: Logits are probabilities already, or probabilities are none.
        """
        low, high = float(bands.min()), float(bands.max())
        if self.values is RasterValues.PROBABILITIES and (low < -_ROUNDING or high > 1 + _ROUNDING):
            raise AnswerError(
                f"The output has values from {low:g} to {high:g}, which are no probabilities; give "
                f"{RASTER}.values logits."
            )
        softmax = self.values is RasterValues.LOGITS and self.activation is Activation.SOFTMAX
        if softmax and low >= 0 and np.allclose(bands.sum(axis=0), 1, rtol=0, atol=_ROUNDING):
            raise AnswerError(
                "The output adds up to 1 at each pixel: the model ends with a softmax, and a "
                f"second one would distort its probabilities; give {RASTER}.values probabilities."
            )

    def band_count(self, classes: int) -> int:
        """The number of bands in the output."""
        if self.values is RasterValues.CLASSES:
            return 1
        return max(1, len(self.names)) if self.values is RasterValues.VALUES else classes

    @property
    def item_bytes(self) -> int:
        """Bytes of a number, at most: those of an argmax are int64."""
        return 8 if self.values is RasterValues.CLASSES else 4

    @property
    def resampling(self) -> str:
        """How its pixels are resampled: numbers of classes have no average."""
        return "nearest" if self.values is RasterValues.CLASSES else "linear"

    def _remedy(self, classes: int) -> str:
        match self.values:
            case RasterValues.CLASSES:
                return "give logits or probabilities for a band a class"
            case RasterValues.VALUES:
                return f"give the name of each band in {RASTER}.names"
        return (
            f"list a class for each band in classification:classes, which has {classes}; for one "
            "band give values classes if it holds their numbers, or activation sigmoid and its "
            "one class"
        )


def _count(bands: int) -> str:
    return "1 band" if bands == 1 else f"{bands} bands"
