"""Objects of the STAC Machine Learning Model extension: base class, object classes, outputs.

MLM v1.5: https://github.com/stac-extensions/mlm. Fields that Swath does not read are ignored.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

DataType = Literal[
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
]  # fmt: skip


class MlmObject(BaseModel):
    """Base of all objects of a description: immutable, unknown fields ignored, no NaN."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        # every field gets an alias, its own name, so that error messages name fields as written
        alias_generator=lambda name: name,
        allow_inf_nan=False,
    )


class Class(MlmObject):
    """A class of objects (STAC Classification extension)."""

    value: int
    name: Annotated[str, Field(min_length=1, max_length=1000)]
    color_hint: Annotated[str, Field(pattern="^[0-9A-Fa-f]{6}$")] | None = None


class ModelOutput(MlmObject):
    """An entry of `mlm:output`."""

    name: str | None = None
    tasks: tuple[str, ...] = ()
    classes: tuple[Class, ...] = Field((), alias="classification:classes")

    @field_validator("classes")
    @classmethod
    def _check_distinct(cls, classes: tuple[Class, ...]) -> tuple[Class, ...]:
        if len({one.value for one in classes}) < len(classes):
            raise ValueError("has the same value twice; give each class its own")
        return classes
