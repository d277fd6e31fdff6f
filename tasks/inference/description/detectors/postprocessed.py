"""Detectors exported with their post-processing: the outputs are boxes, labels and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from tasks.inference.description.detectors.boxes import (
    BoxFormat,
    check_scores,
    class_indices,
    to_corners,
)
from tasks.inference.description.detectors.detector import Detector
from tasks.inference.description.head import Size, Tensors
from tasks.inference.description.mlm import Class
from tasks.inference.endpoint import Boxes

Name = Annotated[str, Field(min_length=1)]


class Postprocessed(Detector):
    """A detector whose outputs are labels and scores (batch, boxes) and boxes (batch, boxes, 4).

    For one tile, the batch dimension may be missing.

    Attributes:
        outputs: The model's name of each output, by role; a role that is not listed is itself the
            name.
        box_format: Format of the boxes.
        normalized: Whether boxes are in fractions of the input's size, not in pixels.
        size: Name of a second input that takes the width and height of the first, int64 (batch, 2).
    """

    outputs: dict[Name, Name] = Field(default_factory=dict)
    box_format: BoxFormat = "xyxy"
    normalized: bool = False
    size: Name | None = Field(None, alias="size_input")

    @model_validator(mode="after")
    def _check_roles(self) -> Postprocessed:
        unknown = [role for role in self.outputs if role not in self.roles]
        if unknown:
            raise ValueError(
                f"outputs: {unknown[0]!r} is not a role; the roles are {', '.join(self.roles)}"
            )
        return self

    @property
    def size_input(self) -> str | None:
        """Name of the input that takes the width and height of the first one; None without one."""
        return self.size

    @property
    def roles(self) -> Mapping[str, int]:
        """Roles of the decoded outputs, and the number of dimensions of each."""
        return {"boxes": 3, "labels": 2, "scores": 2}

    def output_names(
        self,
        declared: Sequence[str | None],  # noqa: ARG002 - roles are mapped by name, not by order
    ) -> dict[str, str | None]:
        """The name of each role's output."""
        return {role: self.outputs.get(role, role) for role in self.roles}

    def decode(self, tensors: Tensors, classes: Sequence[Class], size: Size) -> list[Boxes]:
        """The boxes with a score of at least the threshold."""
        self.check_lengths(tensors)
        return [
            self._decode_tile(*tile, classes=classes, size=size)
            for tile in zip(*(tensors[role] for role in self.roles), strict=True)
        ]

    def in_pixels(self, boxes: NDArray[Any], size: Size) -> NDArray[np.float64]:
        """Convert boxes (n, 4) of the model to corners in pixels of the input."""
        unit = np.array(size * 2, np.float64) if self.normalized else 1.0
        return to_corners(boxes * unit, self.box_format)

    def _decode_tile(
        self,
        boxes: NDArray[Any],
        labels: NDArray[Any],
        scores: NDArray[Any],
        *,
        classes: Sequence[Class],
        size: Size,
    ) -> Boxes:
        found = np.flatnonzero(check_scores(scores) >= self.score_threshold)
        return Boxes(
            self.in_pixels(boxes[found], size),
            scores[found],
            class_indices(labels[found], classes),
            [one.name for one in classes],
        )


class Torchvision(Postprocessed):
    """Detectors of torchvision (Faster R-CNN, RetinaNet, FCOS, SSD, …), as torch exports them.

    Their outputs have no batch dimension, and label 0 is the background. If the names of an
    export's outputs are numbers, `outputs` gives the name for each role.
    """

    type: Literal["torchvision"]
