"""What `swath:detector` says of every family of detectors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, FiniteFloat, field_validator

from tasks.errors import AnswerError
from tasks.inference.description.mlm import Class
from tasks.inference.description.placement import Letterbox
from tasks.inference.description.words import DataType, Words
from tasks.inference.endpoint import Boxes

Tensors = dict[str, NDArray[Any]]
Size = tuple[int, int]  # width, height
Strides = tuple[Annotated[int, Field(ge=1, le=1024)], ...]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Detector(Words):
    """What MLM has no word for, of every family.

    Attributes:
        score_threshold: Boxes with a lower score are left out.
        bands: Of the image, from 1, that go in; in place of MLM's names.
        channel_order: RGB where bands go in as they are listed, BGR where they go in backwards.
        pixel_types: Of images that the value scaling is meant for.
        letterbox: Keep the ratio of width to height when a tile is resized, with padding after it
            or around it.
        pad_value: Value of padding, as that of a pixel of the image, before scaling.
        clip: Least and largest value that the model is given, after scaling.
        strides: Of the model's heads; an input of any size is padded to the largest.
    """

    model_config = ConfigDict(extra="forbid")

    score_threshold: Share = 0.25
    bands: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = None
    channel_order: Literal["RGB", "BGR"] = "RGB"
    pixel_types: Annotated[tuple[DataType, ...], Field(min_length=1)] = ("uint8",)
    letterbox: Letterbox | None = None
    pad_value: FiniteFloat = 0.0
    clip: tuple[FiniteFloat, FiniteFloat] | None = None
    strides: Strides = ()

    @field_validator("clip")
    @classmethod
    def _ordered(cls, clip: tuple[float, float] | None) -> tuple[float, float] | None:
        if clip is not None and clip[0] >= clip[1]:
            raise ValueError("has a least value that is not below the largest; give [0, 255]")
        return clip

    @property
    def stride(self) -> int:
        """Pixels that an input of any size is a multiple of."""
        return max(self.strides, default=1)

    @property
    def roles(self) -> Mapping[str, int]:
        """Outputs that are decoded, and the axes that each has, the batch's among them."""
        return {"predictions": 3}

    @property
    def size_input(self) -> str | None:
        """Name of an input that takes the width and height of the first one."""
        return None

    def check_channels(self, channels: int) -> None:
        """Refuse words that do not fit a model of so many channels.

        Raises:
            ValueError: With the word and the remedy.
        """
        if self.bands is not None and len(self.bands) != channels:
            raise ValueError(
                f"swath:detector.bands: has {len(self.bands)} bands where input.shape has "
                f"{channels}; give as many"
            )
        if self.channel_order == "BGR" and channels != 3:
            raise ValueError(
                f"swath:detector.channel_order: BGR is of 3 bands, and the model takes {channels}; "
                "leave it out"
            )

    def output_names(self, declared: Sequence[str | None]) -> dict[str, str | None]:
        """The output of each role; None for the model's only one.

        Args:
            declared: Names in `mlm:output`.
        """
        return dict.fromkeys(self.roles, declared[0])

    def tensors(
        self, outputs: Mapping[str, NDArray[Any]], names: Mapping[str, str | None], tiles: int
    ) -> Tensors:
        """The outputs by role, batch axis first, as long as the tiles are.

        Args:
            outputs: As the model gave them; without a batch axis where it has none.
            names: Output of each role, as from `output_names`.
            tiles: Of the call.

        Raises:
            AnswerError: One is missing or has other axes.
        """
        tensors = {}
        for role, name in names.items():
            sole = next(iter(outputs)) if name is None and len(outputs) == 1 else name
            if sole is None or sole not in outputs:
                raise AnswerError(
                    f"{role}: the model has no output {name or 'of its own'}, but "
                    f"{', '.join(outputs)}; name it in mlm:output."
                )
            tensor = outputs[sole]
            if tensor.dtype.kind not in "biuf":
                raise AnswerError(f"{role}: the model gives {tensor.dtype} in {sole}, no numbers.")
            if tensor.ndim == self.roles[role] - 1 and tiles == 1:
                tensor = tensor[np.newaxis]
            if tensor.ndim != self.roles[role] or len(tensor) < tiles:
                raise AnswerError(
                    f"Output {sole} has the shape {tensor.shape}; {role} of {tiles} tiles has "
                    f"{self.roles[role]} dimensions, the batch first."
                )
            tensors[role] = tensor[:tiles]
        return tensors

    def check_lengths(self, tensors: Tensors) -> None:
        """Refuse outputs that do not hold one row for each box.

        Raises:
            AnswerError: They differ in length, or boxes have not four numbers.
        """
        shapes = {role: tensor.shape for role, tensor in tensors.items()}
        if len({shape[1] for shape in shapes.values()}) > 1 or shapes["boxes"][2] != 4:
            raise AnswerError(f"The model's outputs do not fit each other: {shapes}.")

    @abstractmethod
    def decode(self, tensors: Tensors, classes: Sequence[Class], size: Size) -> list[Boxes]:
        """The boxes of each tile in pixels of the input, corner-origin.

        Args:
            tensors: By role, batch axis first.
            classes: In the order of their values.
            size: Width and height of the input.

        Raises:
            AnswerError: The tensors are not what this family answers with.
        """
