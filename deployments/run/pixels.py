"""The options for what a tile holds when it is sent, as fields of a request."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any

from cyclopts import Parameter

from deployments.run.option_help import TILES
from deployments.run.words import json_object, words
from tasks.errors import RequestError

_PAIRS = {  # what the two numbers after each type of scaling are
    "linear": ("minimum", "maximum"),
    "percentile": ("lower", "upper"),
    "z-score": ("mean", "stddev"),
}


@dataclass(frozen=True, kw_only=True)
class PixelOptions:
    """The options for what a tile holds; None or empty if not given."""

    bands: Annotated[
        tuple[str, ...],
        Parameter(
            group=TILES,
            help="Bands that the model gets, in its order, separated by commas: numbers from 1, or "
            "names.",
            show_default=lambda _: "all",
        ),
    ] = ()
    scale: Annotated[
        str | None,
        Parameter(
            group=TILES,
            help="How values are scaled: percentile:2,98 (of the whole image), linear:0,3000 or "
            "z-score:MEAN,STDDEV, with :float32 or :uint8 behind; or a JSON object with the fields "
            "of imageScaling.",
        ),
    ] = None
    resolution: Annotated[
        float | None,
        Parameter(
            group=TILES,
            help="Metres a pixel at which tiles are read and sent, as the model was trained.",
            allow_leading_hyphen=True,
            show_default=lambda _: "the image's own",
        ),
    ] = None
    fill: Annotated[
        float | None,
        Parameter(
            group=TILES,
            help="What pixels without data hold in a tile that is sent, before scaling.",
            allow_leading_hyphen=True,
            show_default=lambda _: "0",
        ),
    ] = None

    def pixel_fields(self) -> dict[str, Any]:
        """The fields of the request message for the options that are given.

        Raises:
            RequestError: --bands, --scale, --resolution or --fill has an invalid value.
        """
        bands = list(words("--bands", self.bands))
        if self.bands and not bands:
            raise RequestError("--bands: names no band; give 4,3,2, or leave it out.")
        if self.fill is not None and not isfinite(self.fill):
            raise RequestError(f"--fill: {self.fill} is not a finite number; give one, such as 0.")
        if self.resolution is not None and not isfinite(self.resolution):
            raise RequestError(
                f"--resolution: {self.resolution} is not a finite number; give metres, such as 0.5."
            )
        fields = {
            "imageBands": bands or None,
            "imageScaling": None if self.scale is None else _scaling(self.scale.strip()),
            "imageResolution": self.resolution,
            "imageFill": self.fill,
        }
        return {name: value for name, value in fields.items() if value is not None}


def _scaling(text: str) -> dict[str, Any]:
    if text.startswith("{"):
        example = '{"type": "linear", "minimum": [0, 5], "maximum": [900, 800]}'
        return json_object("--scale", text, word="percentile:2,98", example=example)
    kind, *parts = text.split(":")
    if kind not in _PAIRS or len(parts) > 2:
        raise _not_understood(text)
    fields: dict[str, Any] = {"type": kind}
    if len(parts) == 1 and parts[0][:1].isalpha():
        return fields | {"dataType": parts[0]}
    if parts:
        if not _is_pair(parts[0]):
            raise _not_understood(text)
        fields |= dict(zip(_PAIRS[kind], map(float, parts[0].split(",")), strict=True))
    return fields | ({"dataType": parts[1]} if len(parts) > 1 else {})


def _is_pair(text: str) -> bool:
    """Whether a text is two finite numbers with a comma between them."""
    numbers = text.split(",")
    try:
        return len(numbers) == 2 and all(isfinite(float(number)) for number in numbers)
    except ValueError:
        return False


def _not_understood(text: str) -> RequestError:
    return RequestError(
        f"--scale: {text!r:.100} is no scaling; give percentile:2,98, linear:0,3000, "
        "z-score:MEAN,STDDEV or z-score."
    )
