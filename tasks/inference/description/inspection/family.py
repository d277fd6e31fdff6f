"""What the outputs of a model tell of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Family:
    """What a model's outputs tell of it.

    Attributes:
        title: The family, in words.
        output: Name of the output that has the classes.
        detector: Its `swath:detector`; None for a model that finds no objects.
        raster: Its `swath:raster`; None for a model that does not answer with pixels.
        tile: Its `swath:tile`; None for a model that does not answer about whole tiles.
        task: MLM's name of its task.
        classes: Number of its classes, 0 if it has none; None if the output does not tell.
        first_class: Value of the first class.
        scaling: Its `value_scaling`.
        to_check: What is only usual for this family, by field.
    """

    title: str
    output: str
    detector: Mapping[str, Any] | None
    task: str = "object-detection"
    raster: Mapping[str, Any] | None = None
    tile: Mapping[str, Any] | None = None
    classes: int | None = None
    first_class: int = 0
    scaling: Any = None
    to_check: Mapping[str, str] = field(default_factory=dict)
