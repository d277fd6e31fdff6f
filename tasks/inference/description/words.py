"""What every object of a description has in common, and the types of numbers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

DataType = Literal[
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
]  # fmt: skip


class Words(BaseModel):
    """An object of MLM: frozen, its words as they are written, others let stand."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=lambda name: name, allow_inf_nan=False
    )
