"""The options for a model that answers with pixels, as fields of a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from deployments.run.merging import MergingOptions
from deployments.run.option_help import RASTER
from deployments.run.words import json_object, words
from tasks.errors import RequestError

_OF_FEATURES = ("conf", "merge", "iou", "measure", "class_agnostic")


@Parameter(name="*", group=RASTER)
@dataclass(frozen=True, kw_only=True)
class RasterOptions:
    """The options for a model that answers with pixels; None, empty or False if not given."""

    raster: Annotated[
        str | None,
        Parameter(
            help="What the model's pixels hold: classes, probabilities, logits or values; or a "
            "JSON object with the fields of rasterOutput.",
            show_default=lambda _: "by the model's description",
        ),
    ] = None
    class_names: Annotated[
        tuple[str, ...],
        Parameter(
            help="Names of the classes in the order of the bands, separated by commas, or "
            "NUMBER=NAME for each. They are numbered from 0, with sigmoid from 1.",
            show_default=lambda _: "by the model's description",
        ),
    ] = ()
    blend: Annotated[
        Literal["smooth", "clip", "max", "vote"] | None,
        Parameter(
            help="How overlapping tiles make one raster.",
            show_default=lambda _: "smooth; clip for classes",
        ),
    ] = None
    augment: Annotated[
        Literal["flips", "turns"] | None,
        Parameter(help="Ask for further views of each tile, 4 or 8 in all, and average them."),
    ] = None
    scores: Annotated[
        Literal["uint8", "float32"] | None,
        Parameter(help="Publish the probability of every class too, in this data type."),
    ] = None
    polygons: Annotated[
        bool,
        Parameter(
            negative=(),
            help="Publish the outlines of the classes too, or of those of --classes.",
            show_default=False,
        ),
    ] = False
    min_area: Annotated[
        float | None,
        Parameter(
            help="Pixels that a polygon has at least; smaller ones join a neighbour, or are left "
            "out.",
            allow_leading_hyphen=True,
            show_default=lambda _: "0",
        ),
    ] = None

    def output(self, classes: Sequence[str] = ()) -> dict[str, Any]:
        """The fields of `rasterOutput` for the options that are given.

        Args:
            classes: Values of --classes: the classes to outline.

        Raises:
            RequestError: --raster, --class-names, --classes or --min-area has an invalid value.
        """
        fields = self._values()
        if self.class_names:
            if not fields:
                raise RequestError(
                    "--class-names: names the classes of a raster; give --raster too, or leave it "
                    "out."
                )
            first = 1 if fields.get("activation") == "sigmoid" else 0
            fields["classes"] = _classes(list(words("--class-names", self.class_names)), first)
        given = {"blend": self.blend, "augmentation": self.augment, "scores": self.scores}
        fields |= {name: value for name, value in given.items() if value is not None}
        if self.polygons:
            given_too = fields.get("polygons")
            own = given_too if isinstance(given_too, dict) else {}
            outlined = list(words("--classes", classes))
            if classes and not outlined:
                raise RequestError("--classes: names no class; give water,road, or leave it out.")
            fields["polygons"] = own | self._polygons(outlined)
        elif self.min_area is not None:
            raise RequestError(
                f"--min-area: {self.min_area:g} is of polygons; give --polygons too, or leave it "
                "out."
            )
        return fields

    def _values(self) -> dict[str, Any]:
        text = (self.raster or "").strip()
        if not text.startswith("{"):
            return {"values": text} if self.raster is not None else {}
        example = '{"values": "values", "unit": "m"}'
        return json_object("--raster", text, word="logits", example=example)

    def _polygons(self, classes: list[str]) -> dict[str, Any]:
        if self.min_area is not None and not isfinite(self.min_area):
            raise RequestError(f"--min-area: {self.min_area} is not a finite number; give pixels.")
        least = {} if self.min_area is None else {"minimumArea": self.min_area}
        return least | ({"classes": classes} if classes else {})


def fields_of_answers(merging: MergingOptions, raster: RasterOptions) -> dict[str, Any]:
    """The fields of the message for what is made of a model's answers: features, or a raster.

    Raises:
        RequestError: An option has an invalid value, or does not go with a raster.
    """
    output = raster.output(merging.classes)
    if not output:
        return merging.message()
    for name in _OF_FEATURES:
        if getattr(merging, name) not in (None, (), False):
            raise RequestError(
                f"--{name.replace('_', '-')}: is for features, and the model answers with pixels; "
                "leave it out."
            )
    if merging.classes and not raster.polygons:
        raise RequestError(
            "--classes: keeps features of some classes, and the model answers with pixels; give "
            "--polygons too for the outlines of these classes, or leave it out."
        )
    return {"rasterOutput": output}


def _classes(names: Sequence[str], first: int) -> list[dict[str, Any]]:
    """The classes by their names, numbered from the first number on unless they have numbers."""
    pairs = [name.partition("=") for name in names]
    numbered = [bool(equals) and number.strip().isdecimal() for number, equals, _ in pairs]
    if not any(numbered):
        return [{"value": first + at, "name": name} for at, name in enumerate(names)]
    if not all(numbered):
        plain = names[numbered.index(False)]
        raise RequestError(
            f"--class-names: {plain!r} has no number, and others have; give NUMBER=NAME for each, "
            "such as 0=clear,1=cloud, or only names."
        )
    return [{"value": int(number), "name": name.strip()} for number, _, name in pairs]
