"""Models that answer with pixels: what their output holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from numpy.typing import NDArray
from pydantic import FiniteFloat

from tasks.errors import AnswerError
from tasks.inference.description.head import Fraction, Head, Tensors
from tasks.request.raster_output import Activation, RasterValues

RASTER = "swath:raster"


class RasterHead(Head):
    """An output of one number for each pixel and class, or for each pixel.

    It is (batch, bands, height, width) or (batch, height, width, bands). One that is smaller than
    the input, as of a model with a stride, is enlarged to it: linearly, or by the nearest pixel for
    numbers of classes.

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
        """The one output that is decoded, batch included."""
        return {"predictions": 4}

    def decode(self, tensors: Tensors, classes: int) -> NDArray[Any]:
        """(tiles, bands, height, width) the bands of each tile, in pixels of the output.

        Args:
            tensors: The output by its role, with the batch dimension first.
            classes: Number of the model's classes.

        Raises:
            AnswerError: The output does not have as many bands as there are classes or values.
        """
        bands = self.band_count(classes)
        output = tensors["predictions"]
        if output.shape[1] != bands:
            if output.shape[3] != bands:
                raise AnswerError(
                    f"The model's output has the shape {output.shape[1:]}, and it must have "
                    f"{bands} of bands first or last, one for each class or value; check "
                    f"classification:classes and {RASTER}.names."
                )
            output = output.transpose(0, 3, 1, 2)
        return output

    def band_count(self, classes: int) -> int:
        """The number of bands in the output."""
        if self.values is RasterValues.CLASSES:
            return 1
        return max(1, len(self.names)) if self.values is RasterValues.VALUES else classes

    @property
    def resampling(self) -> str:
        """How its pixels are resampled: numbers of classes have no average."""
        return "nearest" if self.values is RasterValues.CLASSES else "linear"
