"""Exports that answer with labels, boxes and scores: nothing is left to do but to read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tasks.inference.description.mlm import Class
from tasks.inference.description.outputs.boxes import BoxFormat, corners, numbers
from tasks.inference.description.outputs.detector import Detector, Size, Tensors
from tasks.inference.description.outputs.labels import places
from tasks.inference.endpoint import Boxes

Name = Annotated[str, Field(min_length=1)]


class Finished(Detector):
    """Labels and scores (batch, boxes), and boxes (batch, boxes, 4); or one tile without the batch.

    Attributes:
        outputs: Name of each role's output, where it is not the role itself.
        box_format: Of the boxes; corners unless given.
        normalized: Whether boxes are in shares of the input's size, in place of its pixels.
        size: Name of an input that takes the width and height of the first, int64 (batch, 2).
    """

    outputs: dict[Name, Name] = Field(default_factory=dict)
    box_format: BoxFormat = "xyxy"
    normalized: bool = False
    size: Name | None = Field(None, alias="size_input")

    @model_validator(mode="after")
    def _known_roles(self) -> Finished:
        unknown = [role for role in self.outputs if role not in self.roles]
        if unknown:
            raise ValueError(
                f"names the output of {unknown[0]!r}; its roles are {', '.join(self.roles)}"
            )
        return self

    @property
    def size_input(self) -> str | None:
        """Name of an input that takes the width and height of the first one."""
        return self.size

    @property
    def roles(self) -> Mapping[str, int]:
        """Outputs that are decoded, and the axes that each has."""
        return {"boxes": 3, "labels": 2, "scores": 2}

    def output_names(
        self,
        declared: Sequence[str | None],  # noqa: ARG002 - roles tell more than their order
    ) -> dict[str, str | None]:
        """The output of each role."""
        return {role: self.outputs.get(role, role) for role in self.roles}

    def decode(self, tensors: Tensors, classes: Sequence[Class], size: Size) -> list[Boxes]:
        """The boxes as they are, but for those with a low score."""
        self.check_lengths(tensors)
        return [
            self._one(*tile, classes=classes, size=size)
            for tile in zip(*(tensors[role] for role in self.roles), strict=True)
        ]

    def in_pixels(self, boxes: NDArray[Any], size: Size) -> NDArray[np.float64]:
        """Boxes (n, 4) as corners in pixels of the input."""
        shape = np.array(size * 2, np.float64) if self.normalized else 1.0
        return corners(boxes * shape, self.box_format)

    def _one(
        self,
        boxes: NDArray[Any],
        labels: NDArray[Any],
        scores: NDArray[Any],
        *,
        classes: Sequence[Class],
        size: Size,
    ) -> Boxes:
        found = np.flatnonzero(numbers(scores) >= self.score_threshold)
        return Boxes(
            self.in_pixels(boxes[found], size),
            scores[found],
            places(labels[found], classes),
            [one.name for one in classes],
        )
