"""The colours of classes and of a raster's values, in all files."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.request import RasterOutput

PALETTE = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999",
)  # fmt: skip
"""Colours that colour-blind people tell apart (Okabe and Ito, Color Universal Design)."""

OVER_IMAGES = tuple(PALETTE[at] for at in (1, 4, 2, 6, 3, 5, 0))
"""Those for features over an image, the most frequent class first: bright ones stand out from
water and trees. Grey is left for the other classes."""

OTHER = "#666666"
"""Of features whose class has no colour of its own."""

_TRANSPARENT = 0, 0, 0, 0

RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
"""Red, green and blue of values from the lowest to the highest, at equal distances: Viridis, of
Matplotlib, at five places. It is evenly bright, also for colour-blind people."""


def colours(output: RasterOutput) -> dict[int, tuple[int, int, int, int]]:
    """Red, green, blue and alpha of each class by its number; those without one get one.

    Without a list of classes, all numbers are classes. Pixels without a class or an answer are
    transparent.
    """
    given = [(one.value, one.colour) for one in output.classes]
    listed = given or [(number, None) for number in range(int(output.missing))]
    chosen = {
        value: colour or PALETTE[index % len(PALETTE)]
        for index, (value, colour) in enumerate(listed)
    }
    table = {
        value: (int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16), 255)
        for value, text in chosen.items()
    }
    if output.several:
        table.setdefault(0, _TRANSPARENT)
    table[int(output.missing)] = _TRANSPARENT
    return table


def class_colours(classes: Mapping[str, int], output: RasterOutput | None = None) -> dict[str, str]:
    """The colour of each class of features, the most frequent class first.

    Args:
        classes: Number of features of each class.
        output: The raster whose outlines the features are; its classes keep their colours.
    """
    ranked = sorted(classes, key=lambda name: (-classes[name], name))
    chosen = {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(ranked)}
    if output is not None:
        table = colours(output)
        for number, name in output.class_names.items():
            if name in chosen:
                red, green, blue, _ = table[number]
                chosen[name] = f"#{red:02x}{green:02x}{blue:02x}"
    return chosen
