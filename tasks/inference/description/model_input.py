"""The entry of `mlm:input`: the input tensor that is made from a tile."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from tasks.inference.description.mlm import DataType, MlmObject
from tasks.inference.description.value_scaling import ValueScaling

_DIMENSION_NAMES = {
    "batch": {"batch", "b"},
    "bands": {"bands", "band", "channels", "channel", "c"},
    "height": {"height", "h", "y"},
    "width": {"width", "w", "x"},
}
_INTERPOLATIONS = ("nearest", "linear", "cubic", "area", "lanczos4")

DimensionSize = Annotated[int, Field(ge=-1, le=1 << 24)]


class InputStructure(MlmObject):
    """The shape and data type of an input.

    Attributes:
        shape: Size of each dimension; -1 for any size.
        dim_order: Name of each dimension: `batch`, `bands`, `height` or `width`.
        data_type: Data type of the model's input tensor, not of the image.
    """

    shape: Annotated[tuple[DimensionSize, ...], Field(min_length=3, max_length=4)]
    dim_order: tuple[str, ...]
    data_type: DataType

    @field_validator("shape")
    @classmethod
    def _check_not_empty(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        if 0 in shape:
            raise ValueError("has a dimension of 0; give its size, or -1 for any")
        return shape

    @field_validator("dim_order")
    @classmethod
    def _normalize_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        dimensions = tuple(
            next((known for known, also in _DIMENSION_NAMES.items() if name.lower() in also), name)
            for name in names
        )
        complete = sorted({"batch", *dimensions}) == sorted(_DIMENSION_NAMES)
        if not complete or len(set(dimensions)) < len(dimensions):
            raise ValueError(
                "does not name the dimensions of an image; give batch (if the model has one), "
                "bands, height and width, in the model's order"
            )
        return dimensions

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        if len(self.shape) != len(self.dim_order):
            raise ValueError(
                f"has {len(self.shape)} sizes in shape and {len(self.dim_order)} names in "
                "dim_order; give the same number of both"
            )
        if self.size_of("bands") == -1:
            raise ValueError("has -1 for the number of bands in shape; give the number")
        if (self.size_of("height") == -1) != (self.size_of("width") == -1):
            raise ValueError(
                "has -1 for only one of height and width in shape; give both sizes, or -1 twice"
            )
        return self

    def size_of(self, dimension: str) -> int:
        """Size of a dimension, -1 for any."""
        return self.shape[self.dim_order.index(dimension)]


class Band(MlmObject):
    """A band, written as an object with its name."""

    name: str


class ModelInput(MlmObject):
    """The input that is made from a tile."""

    name: Annotated[str, Field(min_length=1)]
    bands: tuple[str | Band, ...] = ()
    input: InputStructure
    value_scaling: tuple[ValueScaling, ...] | None = None
    resize_type: str | None = None
    pre_processing_function: object = None

    @field_validator("resize_type")
    @classmethod
    def _check_resize_type(cls, resize_type: str | None) -> str | None:
        known = ["pad", *(f"interpolation-{name}" for name in _INTERPOLATIONS)]
        if resize_type is not None and resize_type not in known:
            raise ValueError(f"is not supported by Swath; give {', '.join(known)}, or null")
        return resize_type

    @field_validator("pre_processing_function")
    @classmethod
    def _refuse_code(cls, function: object) -> None:
        if function:
            raise ValueError(
                "is code, and Swath does not run code from a description; give null, and describe "
                "it with value_scaling, resize_type and swath:detector or swath:raster"
            )

    @model_validator(mode="after")
    def _check_counts(self) -> Self:
        channels = self.input.size_of("bands")
        if self.bands and len(self.bands) != channels:
            raise ValueError(f"has {len(self.bands)} bands where input.shape has {channels}")
        scalings = self.value_scaling
        if scalings is not None and len(scalings) not in (1, channels):
            raise ValueError(
                f"has {len(scalings)} entries in value_scaling; give 1, or {channels}, one per band"
            )
        return self

    @property
    def band_names(self) -> tuple[str, ...]:
        """The names of the bands, in the order listed."""
        return tuple(band if isinstance(band, str) else band.name for band in self.bands)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Width and height in pixels; None for a model that takes any size."""
        size = self.input.size_of("width"), self.input.size_of("height")
        return None if -1 in size else size
