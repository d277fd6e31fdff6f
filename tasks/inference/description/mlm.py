"""The words of MLM that Swath follows: a model's inputs, outputs and classes.

STAC Machine Learning Model extension, v1.5 (https://github.com/stac-extensions/mlm). Its other
words are let stand and not read.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from tasks.inference.description.value_scaling import Scaling
from tasks.inference.description.words import DataType, Words

_AXES = {
    "batch": {"batch", "b"},
    "bands": {"bands", "band", "channels", "channel", "c"},
    "height": {"height", "h", "y"},
    "width": {"width", "w", "x"},
}
_INTERPOLATIONS = ("nearest", "linear", "cubic", "area", "lanczos4")

Dimension = Annotated[int, Field(ge=-1, le=1 << 24)]


class Structure(Words):
    """The array of an input.

    Attributes:
        shape: By dimension; -1 for any size.
        dim_order: Name of each dimension.
        data_type: Of what the model is given, not of the image.
    """

    shape: Annotated[tuple[Dimension, ...], Field(min_length=3, max_length=4)]
    dim_order: tuple[str, ...]
    data_type: DataType

    @field_validator("shape")
    @classmethod
    def _no_empty_dimension(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        if 0 in shape:
            raise ValueError("holds a dimension of 0; give its size, or -1 for any")
        return shape

    @field_validator("dim_order")
    @classmethod
    def _known_dimensions(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        axes = tuple(
            next((axis for axis, called in _AXES.items() if name.lower() in called), name)
            for name in names
        )
        if sorted({"batch", *axes}) != sorted(_AXES) or len(set(axes)) < len(axes):
            raise ValueError(
                "is not the dimensions of an image; give batch (where there is one), bands, height "
                "and width, in the model's order"
            )
        return axes

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len(self.shape) != len(self.dim_order):
            raise ValueError(
                f"has {len(self.shape)} sizes in shape and {len(self.dim_order)} names in "
                "dim_order; give as many"
            )
        if self.size_of("bands") == -1:
            raise ValueError("leaves the number of bands open in shape; give it")
        if (self.size_of("height") == -1) != (self.size_of("width") == -1):
            raise ValueError("leaves one of height and width open in shape; give both, or -1 twice")
        return self

    def size_of(self, axis: str) -> int:
        """Size of a dimension, -1 where it is any."""
        return self.shape[self.dim_order.index(axis)]


class Band(Words):
    """A band, named."""

    name: str


class ModelInput(Words):
    """What the model takes of a tile."""

    name: Annotated[str, Field(min_length=1)]
    bands: tuple[str | Band, ...] = ()
    input: Structure
    value_scaling: tuple[Scaling, ...] | None = None
    resize_type: str | None = None
    pre_processing_function: object = None

    @field_validator("resize_type")
    @classmethod
    def _known_resizing(cls, resize_type: str | None) -> str | None:
        known = ["pad", *(f"interpolation-{name}" for name in _INTERPOLATIONS)]
        if resize_type is not None and resize_type not in known:
            raise ValueError(f"is not done by Swath; give {', '.join(known)}, or null")
        return resize_type

    @field_validator("pre_processing_function")
    @classmethod
    def _no_program(cls, function: object) -> None:
        if function:
            raise ValueError(
                "is a program, and Swath runs none; give null, and say it with value_scaling, "
                "resize_type and swath:detector"
            )

    @model_validator(mode="after")
    def _as_many(self) -> Self:
        channels = self.input.size_of("bands")
        if self.bands and len(self.bands) != channels:
            raise ValueError(f"has {len(self.bands)} bands where input.shape has {channels}")
        scalings = self.value_scaling
        if scalings is not None and len(scalings) not in (1, channels):
            raise ValueError(
                f"has {len(scalings)} entries in value_scaling; give 1, or {channels}, one a band"
            )
        return self

    @property
    def band_names(self) -> tuple[str, ...]:
        """The bands by name, as they are listed."""
        return tuple(band if isinstance(band, str) else band.name for band in self.bands)


class Class(Words):
    """A class of objects (STAC Classification extension)."""

    value: int
    name: Annotated[str, Field(min_length=1, max_length=1000)]


class ModelOutput(Words):
    """What the model answers with."""

    name: str | None = None
    classes: tuple[Class, ...] = Field((), alias="classification:classes")

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[Class, ...]) -> tuple[Class, ...]:
        if len({one.value for one in classes}) < len(classes):
            raise ValueError("holds a value twice; give each class its own")
        return classes
