"""The raster that a model answers with in place of features, and what is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Self

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from tasks.request.field_types import ClassName, Name, Number, WholeNumber
from tasks.request.message_object import MessageObject

_LARGEST_ID = 65_534  # the largest of 16 bits marks pixels without an answer
_LARGEST_BYTE = 254  # likewise of 8 bits


class RasterValues(StrEnum):
    """What the numbers of a model's raster are."""

    CLASSES = "classes"
    PROBABILITIES = "probabilities"
    LOGITS = "logits"
    VALUES = "values"


class Activation(StrEnum):
    """The function that turns logits into probabilities."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"


class Blend(StrEnum):
    """What a pixel gets that several tiles were answered for."""

    SMOOTH = "smooth"
    CLIP = "clip"
    MAX = "max"
    VOTE = "vote"


class Augmentation(StrEnum):
    """The further views of each tile that a model is asked for; the answers are averaged."""

    NONE = "none"
    FLIPS = "flips"
    TURNS = "turns"


class Scores(StrEnum):
    """The data type of the probabilities of every class, in a file of their own."""

    NONE = "none"
    UINT8 = "uint8"
    FLOAT32 = "float32"


def _colour(text: str) -> str:
    digits = text.removeprefix("#")
    if len(text) != 7 or len(digits) != 6 or set(digits.lower()) - set("0123456789abcdef"):
        raise ValueError("is not a colour; give # and six hexadecimal digits, such as #1f77b4")
    return text.lower()


class RasterClass(MessageObject):
    """A class of the pixels."""

    value: WholeNumber = Field(
        ge=0, le=_LARGEST_ID, description="Its number in the class map.", examples=[1]
    )
    name: ClassName = Field(description="Its name.", examples=["cloud"])
    colour: Annotated[str, AfterValidator(_colour)] | None = Field(
        None, description="Its colour in the class map.", examples=["#f0f0f0"]
    )


class Polygons(MessageObject):
    """The outlines of the classes, published as features."""

    minimum_area: Number = Field(
        0,
        ge=0,
        description="Pixels that a polygon has at least: a smaller one is added to the neighbour "
        "with the longest common border, or left out if most of it borders no outlined class.",
        examples=[16],
    )
    largest_hole: Number = Field(
        0,
        ge=0,
        description="Pixels of the largest holes that are filled; polygons in them are left out.",
        examples=[16],
    )
    tolerance: Number = Field(
        0,
        ge=0,
        description="Pixels by which simplified outlines may differ from the class map; neighbours "
        "keep their common border. 0 for exact outlines.",
        examples=[1.5],
    )
    right_angles: bool = Field(
        False,
        description="Whether the outlines get right angles, as those of buildings have: each by "
        "itself, so neighbours may overlap. One that would differ too much stays exact.",
        examples=[True],
    )
    classes: tuple[ClassName, ...] = Field(
        (), description="Names of the classes to outline; all unless given.", examples=[["cloud"]]
    )


class RasterOutput(MessageObject):
    """What a model's raster is, and what is made of it."""

    wanted_if_empty = frozenset({"polygons"})

    values: RasterValues | None = Field(
        None,
        description="What the numbers are: classes (numbers of classes), probabilities or logits "
        "(one band a class), or values (any numbers). A model with a description says so itself.",
        examples=["probabilities"],
    )
    classes: tuple[RasterClass, ...] = Field(
        (),
        description="The classes: in the order of the bands for probabilities and logits.",
        examples=[[{"value": 0, "name": "clear"}, {"value": 1, "name": "cloud"}]],
    )
    activation: Activation = Field(
        Activation.SOFTMAX,
        description="What turns logits into probabilities: softmax if a pixel has one class, "
        "sigmoid if it may have several or none.",
        examples=["softmax"],
    )
    threshold: Number = Field(
        0.5,
        ge=0,
        le=1,
        description="With sigmoid, the probability below which a pixel has no class, number 0.",
        examples=[0.5],
    )
    bands: tuple[Name, ...] = Field(
        (), description="For values, the name of each band.", examples=[["height"]]
    )
    unit: Name | None = Field(None, description="For values, their unit.", examples=["m"])
    nodata: Number | None = Field(
        None,
        description="The number of a pixel that the model has no answer for: one of its classes' "
        "numbers, or of its values.",
        examples=[-9999],
    )
    blend: Blend | None = Field(
        None,
        description="How overlapping tiles make one raster: smooth (averaged, by weights that fall "
        "off towards a tile's edges), clip (the tile whose centre is nearest), max (the highest), "
        "or vote (for classes: the most frequent, the nearest of several). Smooth unless given, "
        "clip for classes.",
        examples=["smooth"],
    )
    augmentation: Augmentation = Field(
        Augmentation.NONE,
        description="Further views of each tile that the model is asked for, whose answers are "
        "averaged: flips (4 in all) or turns (quarter turns and flips, 8 in all).",
        examples=["flips"],
    )
    full_tiles: bool = Field(
        False,
        description="Whether the model takes tiles of the full size only: an image smaller than a "
        "tile is then reflected at its right and lower border.",
        examples=[True],
    )
    scores: Scores = Field(
        Scores.NONE,
        description="Publish the probability of every class too, as uint8 (in 254ths) or float32.",
        examples=["uint8"],
    )
    polygons: Polygons | None = Field(
        None,
        description="Publish the outlines of the classes too, as features; {} for exact ones of "
        "every class.",
        examples=[{"minimumArea": 16}],
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.values is None:
            return self
        if self.values in (RasterValues.PROBABILITIES, RasterValues.LOGITS) and not self.classes:
            raise ValueError(f"classes: is missing, and {self.values} need one for each band")
        numbers = [one.value for one in self.classes]
        for what in ("value", "name"):
            if len({getattr(one, what) for one in self.classes}) < len(self.classes):
                raise ValueError(f"classes: has the same {what} twice; give each class its own")
        if self.several and 0 in numbers:
            raise ValueError(
                "classes: has the value 0, which with sigmoid is that of a pixel without a class; "
                "count from 1"
            )
        if self.is_values:
            self._check_no_classes()
        if self.scores is not Scores.NONE and not self.has_probabilities:
            raise ValueError("scores: needs probabilities or logits; leave it out")
        fitting = _BLENDS[self.values]
        if self.blend is not None and self.blend not in fitting:
            raise ValueError(
                f"blend: is {self.blend}, which does not go with {self.values}; give "
                f"{', '.join(fitting)}"
            )
        if self.augmentation is not Augmentation.NONE and self.values is RasterValues.CLASSES:
            raise ValueError("augmentation: numbers of classes have no average; leave it out")
        self._check_polygons()
        return self

    def _check_no_classes(self) -> None:
        """Check that nothing of classes is asked for of a raster of values."""
        scores = self.scores is not Scores.NONE
        given = {"scores": scores, "polygons": self.polygons, "classes": self.classes}
        if wrong := [name for name, value in given.items() if value]:
            raise ValueError(
                f"{wrong[0]}: needs classes, probabilities or logits, and the raster has values; "
                "leave it out"
            )

    def _check_polygons(self) -> None:
        """Check that the polygons are of classes that there are."""
        if self.polygons is None:
            return
        known = {one.name for one in self.classes}
        if not known:
            raise ValueError("classes: is missing, and polygons need the name of each class")
        if unknown := set(self.polygons.classes) - known:
            raise ValueError(
                f"polygons.classes: names {min(unknown)!r}, which is not one of the classes; give "
                f"{', '.join(sorted(known))}"
            )

    @property
    def is_values(self) -> bool:
        """Whether the raster holds values, not classes."""
        return self.values is RasterValues.VALUES

    @property
    def has_probabilities(self) -> bool:
        """Whether the model tells how probable each class is."""
        return self.values in (RasterValues.PROBABILITIES, RasterValues.LOGITS)

    @property
    def several(self) -> bool:
        """Whether a pixel may have several classes or none."""
        return self.has_probabilities and self.activation is Activation.SIGMOID

    @property
    def class_names(self) -> dict[int, str]:
        """The name of each class by its number, also of that of a pixel without a class."""
        names = {one.value: one.name for one in self.classes}
        return {0: "no class", **names} if self.several else names

    @property
    def question(self) -> dict[str, Any]:
        """The fields that a model's answers, as they are kept, depend on."""
        numbers = [one.value for one in self.classes]
        return {
            "values": self.values,
            "activation": self.activation if self.has_probabilities else None,
            "classes": numbers if self.has_probabilities else None,
            "dtype": str(self.dtype),
            "bands": len(self.bands),
            "nodata": self.nodata,
            "augmentation": self.augmentation,
            "fullTiles": self.full_tiles,
        }

    @property
    def blending(self) -> Blend:
        """How overlapping tiles make one raster."""
        return self.blend or _BLENDS[self.values or RasterValues.VALUES][0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the class map or of the values."""
        if self.is_values:
            return np.dtype(np.float32)
        largest = max((one.value for one in self.classes), default=0)
        return np.dtype(np.uint8 if largest <= _LARGEST_BYTE else np.uint16)

    @property
    def missing(self) -> float:
        """The number of a pixel without an answer in the class map or the values."""
        if self.is_values:
            return float("nan") if self.nodata is None else float(self.nodata)
        return float(np.iinfo(self.dtype).max)


_BLENDS: dict[RasterValues, Sequence[Blend]] = {
    RasterValues.CLASSES: (Blend.CLIP, Blend.VOTE),
    RasterValues.PROBABILITIES: (Blend.SMOOTH, Blend.CLIP, Blend.MAX),
    RasterValues.LOGITS: (Blend.SMOOTH, Blend.CLIP, Blend.MAX),
    RasterValues.VALUES: (Blend.SMOOTH, Blend.CLIP, Blend.MAX),
}
