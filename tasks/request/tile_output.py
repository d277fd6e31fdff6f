"""What a model answers about a tile as a whole: its class, or an embedding."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

from pydantic import Field, model_validator

from tasks.request.field_types import ClassName, WholeNumber
from tasks.request.message_object import MessageObject
from tasks.request.raster_output import Activation

_LONGEST = 65_536  # numbers of an embedding


class TileValues(StrEnum):
    """What the numbers of a model's answer for a tile are."""

    PROBABILITIES = "probabilities"
    LOGITS = "logits"
    EMBEDDING = "embedding"


class TileOutput(MessageObject):
    """What a model answers about each tile as a whole: one feature with the tile's footprint."""

    values: TileValues = Field(
        TileValues.PROBABILITIES,
        description="What the numbers are: probabilities or logits, one for each class of the "
        "tile; or embedding, a vector. A model with a description says so itself.",
        examples=["probabilities"],
    )
    classes: tuple[ClassName, ...] = Field(
        (),
        description="Names of the classes in the order of the numbers. A model that answers with "
        "GeoJSON names its classes itself.",
        examples=[["harbour", "forest"]],
    )
    activation: Activation = Field(
        Activation.SOFTMAX,
        description="What turns logits into probabilities: softmax if a tile has one class, "
        "sigmoid if it may have several.",
        examples=["softmax"],
    )
    all_scores: bool = Field(
        False,
        description="Whether a feature has the score of every class, not only of the best.",
        examples=[True],
    )
    size: WholeNumber | None = Field(
        None,
        ge=1,
        le=_LONGEST,
        description="Number of numbers in an embedding; one of another length is rejected.",
        examples=[768],
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.is_embedding:
            softmax = self.activation is Activation.SOFTMAX  # as a request is written whole
            given = {
                "classes": self.classes,
                "activation": not softmax,
                "allScores": self.all_scores,
            }
            if wrong := [name for name, value in given.items() if value]:
                raise ValueError(
                    f"{wrong[0]}: is of classes, and the model answers with an embedding; leave it "
                    "out"
                )
            if self.size is None:
                raise ValueError("size: is missing; give the number of numbers in an embedding")
        elif self.size is not None:
            raise ValueError(f"size: is of an embedding, and values is {self.values}; leave it out")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes: has the same name twice; give each class its own")
        return self

    @property
    def is_embedding(self) -> bool:
        """Whether the answer is a vector, not classes."""
        return self.values is TileValues.EMBEDDING

    @property
    def question(self) -> dict[str, Any]:
        """The fields that a model's answers, as they are kept, depend on."""
        return self.model_dump(mode="json")
