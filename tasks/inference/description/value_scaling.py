"""MLM's Value Scaling Object: how the values of a band are scaled."""

from __future__ import annotations

from math import inf
from typing import Literal, Self

from pydantic import FiniteFloat, field_validator, model_validator

from tasks.inference.description.mlm import MlmObject

_REQUIRED_FIELDS = {
    "min-max": ("minimum", "maximum"),
    "z-score": ("mean", "stddev"),
    "clip": ("minimum", "maximum"),
    "clip-min": ("minimum",),
    "clip-max": ("maximum",),
    "offset": ("value",),
    "scale": ("value",),
}


class ValueScaling(MlmObject):
    """A scaling of MLM, except `processing`, which is code. A `type` of None changes nothing.

    A value is clipped to `bounds`, then `offset` is subtracted, and the difference is divided by
    `divisor`.
    """

    type: Literal["min-max", "z-score", "clip", "clip-min", "clip-max", "offset", "scale"] | None
    minimum: FiniteFloat | None = None
    maximum: FiniteFloat | None = None
    mean: FiniteFloat | None = None
    stddev: FiniteFloat | None = None
    value: FiniteFloat | None = None

    @field_validator("type", mode="before")
    @classmethod
    def _refuse_code(cls, kind: object) -> object:
        if kind == "processing":
            raise ValueError(
                "is code, and Swath does not run code from a description; give min-max, z-score, "
                "clip, offset or scale"
            )
        return kind

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        required = _REQUIRED_FIELDS.get(self.type or "", ())
        for name in required:
            if getattr(self, name) is None:
                raise ValueError(f"is of type {self.type} and has no {name}; give it")
        if "minimum" in required and "maximum" in required and self._low >= self._high:
            raise ValueError(
                f"has a minimum {self._low:g} that is not below its maximum; give a lower one"
            )
        if self.divisor == 0:
            raise ValueError("divides by zero; give another stddev or value")
        return self

    @property
    def offset(self) -> float:
        """What is subtracted from a value."""
        match self.type:
            case "min-max":
                return self._low
            case "z-score":
                return self.mean or 0.0
            case "offset":
                return self.value or 0.0
        return 0.0

    @property
    def divisor(self) -> float:
        """What the difference is divided by."""
        match self.type:
            case "min-max":
                return self._high - self._low
            case "z-score":
                return self.stddev or 0.0
            case "scale":
                return self.value or 0.0
        return 1.0

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The range that a value is clipped to first; None for no clipping."""
        match self.type:
            case "clip":
                return self._low, self._high
            case "clip-min":
                return self._low, inf
            case "clip-max":
                return -inf, self._high
        return None

    @property
    def _low(self) -> float:
        return self.minimum or 0.0

    @property
    def _high(self) -> float:
        return self.maximum or 0.0
