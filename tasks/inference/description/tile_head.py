"""Models that answer about a tile as a whole: what their output holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tasks.errors import AnswerError
from tasks.inference.description.head import Head, find_output
from tasks.request.raster_output import Activation
from tasks.request.tile_output import TileValues

TILE = "swath:tile"
_VECTOR = "vector"
_ROUNDING = 2e-3  # of probabilities in half precision


class TileHead(Head):
    """An output of one number for each class, or of a vector, for a whole tile.

    It is (batch, numbers); further dimensions of size 1 are left out.

    Attributes:
        values: What the numbers are.
        activation: What turns logits into probabilities.
        size: Number of numbers in an embedding; None for classes.
    """

    field: ClassVar[str] = TILE

    values: TileValues = TileValues.LOGITS
    activation: Activation = Activation.SOFTMAX
    size: Annotated[int, Field(ge=1)] | None = None

    @property
    def is_embedding(self) -> bool:
        """Whether the output is a vector, not classes."""
        return self.values is TileValues.EMBEDDING

    @property
    def roles(self) -> Mapping[str, int]:
        """The one output that is decoded, batch included."""
        return {_VECTOR: 2}

    def check_size(self) -> None:
        """Check that an embedding has a size, and nothing else.

        Raises:
            ValueError: It has none, or classes have one.
        """
        if self.is_embedding and self.size is None:
            raise ValueError(f"{TILE}.size: is missing; give the number of numbers in an embedding")
        if not self.is_embedding and self.size is not None:
            raise ValueError(f"{TILE}.size: is of an embedding; leave it out")

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], name: str | None, classes: int, tiles: int
    ) -> NDArray[Any]:
        """(tiles, numbers) the numbers of each tile.

        Args:
            outputs: The model's outputs by name.
            name: The one to decode; None for the only one.
            classes: Number of the model's classes.
            tiles: Number of tiles in the call.

        Raises:
            AnswerError: The output is missing, or has not as many numbers as it must.
        """
        chosen, tensor = find_output(outputs, _VECTOR, name)
        numbers = self.size if self.is_embedding else classes
        shape = tensor.shape
        if tiles == 1 and shape[:1] == (numbers,) and tensor.size == numbers:
            tensor = tensor[np.newaxis]  # without a batch
        if tensor.ndim < 2 or len(tensor) < tiles or tensor[0].size != numbers:
            remedy = f"correct {TILE}.size" if self.is_embedding else "list a class for each number"
            raise AnswerError(
                f"Output {chosen!r} has the shape {shape}, and for {tiles} tiles it must have "
                f"{tiles} rows of {numbers} numbers; {remedy}, or name another output in "
                "mlm:output."
            )
        return tensor.reshape(len(tensor), -1)[:tiles]

    def check_values(self, numbers: NDArray[Any]) -> None:
        """Check that the numbers of a tile may be what `values` says, as far as they tell.

        Args:
            numbers: (n,) of the tile.

        Raises:
            AnswerError: Logits are probabilities already, or probabilities are none.
        """
        low, high = float(numbers.min()), float(numbers.max())
        if self.values is TileValues.PROBABILITIES and (low < -_ROUNDING or high > 1 + _ROUNDING):
            raise AnswerError(
                f"The output has numbers from {low:g} to {high:g}, which are no probabilities; "
                f"give {TILE}.values logits."
            )
        softmax = self.values is TileValues.LOGITS and self.activation is Activation.SOFTMAX
        if softmax and low >= 0 and abs(float(numbers.sum(dtype=np.float64)) - 1) <= _ROUNDING:
            raise AnswerError(
                "The output adds up to 1: the model ends with a softmax, and a second one would "
                f"distort its probabilities; give {TILE}.values probabilities."
            )
