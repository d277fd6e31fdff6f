"""How a model is called, beyond what MLM describes: the part that all kinds of models have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, FiniteFloat, field_validator

from tasks.errors import AnswerError
from tasks.inference.description.mlm import DataType, MlmObject

Letterbox = Literal["corner", "centre"]
Tensors = dict[str, NDArray[Any]]
Size = tuple[int, int]  # width, height
Strides = tuple[Annotated[int, Field(ge=1, le=1024)], ...]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Head(MlmObject):
    """How a model is called and its outputs are named, beyond what MLM describes.

    Attributes:
        field: The entry of the description that it is from, for error messages.
        bands: Numbers of the image's bands to use, from 1, in place of MLM's names.
        channel_order: RGB to keep the order of the bands, BGR to reverse it.
        pixel_types: Pixel types of images that the value scaling is written for.
        letterbox: Keep the aspect ratio when a tile is resized, with padding to the right and below
            (`corner`) or on all sides (`centre`); None stretches the tile.
        pad_value: Value of the padding, before scaling, as if it were a pixel of the image.
        clip: Minimum and maximum of the values after scaling.
        strides: Strides of the model's heads in pixels; an input of any size is padded to a
            multiple of the largest.
    """

    model_config = ConfigDict(extra="forbid")

    field: ClassVar[str]

    bands: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] | None = None
    channel_order: Literal["RGB", "BGR"] = "RGB"
    pixel_types: Annotated[tuple[DataType, ...], Field(min_length=1)] = ("uint8",)
    letterbox: Letterbox | None = None
    pad_value: FiniteFloat = 0.0
    clip: tuple[FiniteFloat, FiniteFloat] | None = None
    strides: Strides = ()

    @field_validator("clip")
    @classmethod
    def _check_order(cls, clip: tuple[float, float] | None) -> tuple[float, float] | None:
        if clip is not None and clip[0] >= clip[1]:
            raise ValueError("has a minimum that is not below the maximum; give [0, 255]")
        return clip

    @property
    def stride(self) -> int:
        """The number of pixels to a multiple of which an input of any size is padded."""
        return max(self.strides, default=1)

    @property
    def roles(self) -> Mapping[str, int]:
        """Roles of the decoded outputs, and the number of dimensions of each, batch included."""
        return {"predictions": 3}

    @property
    def size_input(self) -> str | None:
        """Name of the input that takes the width and height of the first one; None without one."""
        return None

    def check_channels(self, channels: int) -> None:
        """Check the fields that depend on the number of the model's channels.

        Raises:
            ValueError: A field does not fit; the message has the field and the remedy.
        """
        if self.bands is not None and len(self.bands) != channels:
            raise ValueError(
                f"{self.field}.bands: has {len(self.bands)} bands where input.shape has "
                f"{channels}; give {channels}"
            )
        if self.channel_order == "BGR" and channels != 3:
            raise ValueError(
                f"{self.field}.channel_order: BGR needs 3 bands, and the model takes {channels}; "
                "leave it out"
            )

    def output_names(self, declared: Sequence[str | None]) -> dict[str, str | None]:
        """The name of each role's output; None for the only output of the model.

        Args:
            declared: The names in `mlm:output`.
        """
        return dict.fromkeys(self.roles, declared[0])

    def tensors(
        self, outputs: Mapping[str, NDArray[Any]], names: Mapping[str, str | None], tiles: int
    ) -> Tensors:
        """The outputs by role, batch dimension first, one row per tile.

        Args:
            outputs: The model's outputs by name; for a single tile, the batch dimension may be
                missing.
            names: Name of each role's output, from `output_names`.
            tiles: Number of tiles in the call.

        Raises:
            AnswerError: An output is missing, is not numeric or has other dimensions.
        """
        tensors = {}
        for role, name in names.items():
            chosen, tensor = find_output(outputs, role, name)
            if tensor.ndim == self.roles[role] - 1 and tiles == 1:
                tensor = tensor[np.newaxis]
            if tensor.ndim != self.roles[role] or len(tensor) < tiles:
                raise AnswerError(
                    f"Output {chosen!r} has the shape {tensor.shape}; {role} of {tiles} tiles must "
                    f"have {self.roles[role]} dimensions, the batch first."
                )
            tensors[role] = tensor[:tiles]
        return tensors


def find_output(
    outputs: Mapping[str, NDArray[Any]], role: str, name: str | None
) -> tuple[str, NDArray[Any]]:
    """The name of an output, and its tensor.

    Args:
        outputs: The model's outputs by name.
        role: What the output is decoded as, for the error.
        name: Its name; None for the only output of the model.

    Raises:
        AnswerError: There is no such output, or it is not numeric.
    """
    chosen = next(iter(outputs)) if name is None and len(outputs) == 1 else name
    if chosen is None:
        raise AnswerError(
            f"{role}: the model has several outputs, {', '.join(outputs)}; name the one to decode "
            "in mlm:output."
        )
    if chosen not in outputs:
        raise AnswerError(
            f"{role}: the model has no output {chosen!r}; its outputs are {', '.join(outputs)}; "
            "name one of them in mlm:output."
        )
    tensor = outputs[chosen]
    if tensor.dtype.kind not in "biuf":
        raise AnswerError(f"{role}: output {chosen!r} is {tensor.dtype}, not numeric.")
    return chosen, tensor
