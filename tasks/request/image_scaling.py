"""How the values of pixels are scaled before a tile is sent: `imageScaling`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

import numpy as np
from pydantic import BeforeValidator, Field, model_validator

from tasks.request.field_types import Number
from tasks.request.message_object import MessageObject


class ScalingType(StrEnum):
    """How values are scaled."""

    LINEAR = "linear"
    PERCENTILE = "percentile"
    Z_SCORE = "z-score"


class ScaledType(StrEnum):
    """The pixel type of tiles after scaling."""

    UINT8 = "uint8"
    FLOAT32 = "float32"


_LARGEST = 255.0  # of uint8


def _listed(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """A number as a list of one."""
    return value if isinstance(value, list | tuple) else [value]


PerBand = Annotated[
    tuple[Number, ...],
    BeforeValidator(_listed, json_schema_input_type=Number | tuple[Number, ...]),
]
"""One number for all bands, or one for each."""


def _divides(value: float) -> bool:
    """Whether pixels can be divided by a value in single precision, in which they are scaled."""
    limits = np.finfo(np.float32)
    return bool(_LARGEST * limits.tiny <= value <= limits.max)


_FIELDS = {
    ScalingType.LINEAR: {"minimum", "maximum"},
    ScalingType.PERCENTILE: {"minimum", "maximum", "lower", "upper"},
    ScalingType.Z_SCORE: {"mean", "stddev"},
}


class ImageScaling(MessageObject):
    """How the values of pixels are scaled."""

    type: ScalingType = Field(
        description="linear (from minimum to maximum), percentile (likewise, between two "
        "percentiles of the whole image) or z-score (less mean, divided by stddev).",
        examples=["percentile"],
    )
    minimum: PerBand = Field(
        (),
        description="Value that becomes 0, as are lower ones: one for all bands, or one for each. "
        "For percentile it is found in the image.",
        examples=[[0]],
    )
    maximum: PerBand = Field(
        (),
        description="Value that becomes 255 in uint8 and 1 in float32, as are higher ones: one for "
        "all bands, or one for each. For percentile it is found in the image.",
        examples=[[3000]],
    )
    lower: Number = Field(
        2,
        ge=0,
        le=100,
        description="For percentile, the one that becomes 0, of each band.",
        examples=[2],
    )
    upper: Number = Field(
        98,
        ge=0,
        le=100,
        description="For percentile, the one that becomes the highest value, of each band.",
        examples=[98],
    )
    mean: PerBand = Field(
        (),
        description="For z-score, what is subtracted: one for all bands, or one for each; that of "
        "the whole image unless given.",
        examples=[[1200, 1100, 900]],
    )
    stddev: PerBand = Field(
        (),
        description="For z-score, what the difference is divided by: one for all bands, or one for "
        "each; that of the whole image unless given.",
        examples=[[300, 250, 250]],
    )
    data_type: ScaledType | None = Field(
        None,
        description="Pixel type of the tiles: uint8 (0 to 255) or float32 (0 to 1). uint8 unless "
        "given; z-scores are always float32.",
        examples=["uint8"],
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        own = _FIELDS[self.type] | {"type", "data_type"}
        foreign = [  # not by what is set: a request that is written whole has all fields
            name
            for name, field in type(self).model_fields.items()
            if name not in own and getattr(self, name) != field.default
        ]
        if foreign:
            raise ValueError(f"{foreign[0]}: is not for the type {self.type}; leave it out")
        one, other = self._pair
        low, high = getattr(self, one), getattr(self, other)
        if self.type is ScalingType.LINEAR and not (low and high):
            missing = other if low else one
            raise ValueError(f"{missing}: is missing, and linear needs it; give it")
        if len(low) != len(high):
            raise ValueError(
                f"{other}: has {len(high)} numbers, and {one} has {len(low)}; give as many"
            )
        if self.type is ScalingType.Z_SCORE:
            self._check_z_score()
        elif any(a >= b for a, b in zip(low, high, strict=True)):
            raise ValueError("minimum: is not below maximum; give a lower one")
        elif not all(_divides(b - a) for a, b in zip(low, high, strict=True)):
            raise ValueError("maximum: is too near to minimum, or too far from it; give another")
        if self.lower >= self.upper:
            raise ValueError(f"lower: {self.lower:g} is not below upper; give a lower one")
        return self

    def _check_z_score(self) -> None:
        if not all(value > 0 and _divides(value) for value in self.stddev):
            raise ValueError("stddev: is not above 0; give a higher one")
        if self.data_type is ScaledType.UINT8:
            raise ValueError("dataType: uint8 cannot hold z-scores below 0; leave it out")

    @property
    def _pair(self) -> tuple[str, str]:
        return ("mean", "stddev") if self.type is ScalingType.Z_SCORE else ("minimum", "maximum")

    @property
    def numbers(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Minimum and maximum, or mean and stddev, of all bands or of each; empty if not known."""
        one, other = self._pair
        return getattr(self, one), getattr(self, other)

    def with_numbers(self, first: tuple[float, ...], second: tuple[float, ...]) -> Self:
        """The same, with minimum and maximum, or mean and stddev, of each band."""
        values = dict(zip(self._pair, (first, second), strict=True))
        return self.model_copy(update=values)

    @property
    def content(self) -> dict[str, Any]:
        """All that tiles depend on, as the message names it: whichever fields were given."""
        own = self.model_dump(mode="json", include={"type", *_FIELDS[self.type]})
        return own | {"dataType": self.dtype.name}

    @property
    def dtype(self) -> np.dtype[Any]:
        """Pixel type of the tiles."""
        default = ScaledType.FLOAT32 if self.type is ScalingType.Z_SCORE else ScaledType.UINT8
        return np.dtype(self.data_type or default)

    @property
    def largest(self) -> float:
        """What the maximum of a linear scaling becomes."""
        return _LARGEST if self.dtype == np.uint8 else 1.0
