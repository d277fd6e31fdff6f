"""The part of `swath:detector` that all families of detectors have."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from tasks.errors import AnswerError
from tasks.inference.description.head import Fraction, Head, Size, Tensors
from tasks.inference.description.mlm import Class
from tasks.inference.endpoint import Boxes

DETECTOR = "swath:detector"


class Detector(Head):
    """How a model is called and its outputs are decoded to boxes, beyond what MLM describes.

    Attributes:
        oriented: Whether its outlines are oriented boxes, whose angle and sides are told.
        segments: Whether its objects have masks, which become outlines.
        score_threshold: Boxes with a lower score are dropped.
    """

    field: ClassVar[str] = DETECTOR
    oriented: ClassVar[bool] = False
    segments: ClassVar[bool] = False

    score_threshold: Fraction = 0.25

    def check_lengths(self, tensors: Tensors) -> None:
        """Check that all outputs have one row per box.

        Raises:
            AnswerError: Their lengths differ, or boxes do not have four numbers.
        """
        shapes = {role: tensor.shape for role, tensor in tensors.items()}
        if len({shape[1] for shape in shapes.values()}) > 1 or shapes["boxes"][2] != 4:
            raise AnswerError(f"The shapes of the model's outputs do not match: {shapes}.")

    @abstractmethod
    def decode(self, tensors: Tensors, classes: Sequence[Class], size: Size) -> list[Boxes]:
        """The boxes of each tile in pixels of the input, corner-origin.

        Args:
            tensors: The outputs by role, with the batch dimension first.
            classes: The classes, in the order of their values.
            size: Width and height of the input in pixels.

        Raises:
            AnswerError: The tensors do not have the shapes of this family, or scores are NaN.
        """
