"""The style that QGIS gives a raster when it opens one, in a file beside it.

QGIS takes `x.tif.qml` for `x.tif.tif`. Without it, versions before 3.30 list all numbers that the
data type holds as classes (256, or 65,536), and every version draws two bands of values as red and
green.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree as ET

import numpy as np

from tasks.publish.colours import RAMP, colours
from tasks.raster import Layer, Raster
from tasks.raster.statistics import Statistics

_VERSION = "3.22"  # of QGIS, which reads styles of versions before its own
_DEVIATIONS = 2  # from the mean to the ends of the ramp: 95 of 100 values, if they are normal

Entry = tuple[float, tuple[int, int, int, int], str]


def qgis_style(raster: Raster) -> bytes | None:
    """The bytes of the file; None if no pixel has an answer.

    Classes have their colours and names, those without a name as far as pixels have them. Of
    values, the first band has a ramp of colours.

    Args:
        raster: The raster.
    """
    layer = raster.layers[0]
    found = raster.statistics[layer.name]
    if not found.count:
        return None
    root = ET.Element("qgis", version=_VERSION, styleCategories="Symbology")
    common = {"band": "1", "opacity": "1", "alphaBand": "-1"}
    pipe = ET.SubElement(root, "pipe")
    renderer = ET.SubElement(pipe, "rasterrenderer", common)
    if layer.categorical:
        renderer.set("type", "paletted")
        palette = ET.SubElement(renderer, "colorPalette")
        _add(palette, "paletteEntry", _classes(raster, found))
    else:
        entries = _ramp(layer, found)
        low, high = (f"{value:.9g}" for value, *_ in (entries[0], entries[-1]))
        renderer.set("type", "singlebandpseudocolor")
        renderer.set("classificationMin", low)
        renderer.set("classificationMax", high)
        ramp = {
            "colorRampType": "INTERPOLATED", "classificationMode": "2", "clip": "0",
            "minimumValue": low, "maximumValue": high,
        }  # fmt: skip
        shader = ET.SubElement(ET.SubElement(renderer, "rastershader"), "colorrampshader", ramp)
        _add(shader, "item", entries)
        if layer.unit:
            ET.SubElement(shader, "rampLegendSettings", suffix=f" {layer.unit}")
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8"))


def _add(parent: ET.Element, tag: str, entries: Iterable[Entry]) -> None:
    for value, (red, green, blue, alpha), label in entries:
        colour = f"#{red:02x}{green:02x}{blue:02x}"
        own = {"value": f"{value:.9g}", "color": colour, "alpha": str(alpha), "label": label}
        ET.SubElement(parent, tag, own)


def _classes(raster: Raster, found: Statistics) -> list[Entry]:
    names, table = raster.output.class_names, colours(raster.output)
    return [
        (number, table[number], names.get(number, f"class {number}"))
        for number in sorted({*names, *found.pixels})
    ]


def _ramp(layer: Layer, found: Statistics) -> list[Entry]:
    """Between the mean and some deviations, so that a few extreme values do not flatten all."""
    spread = _DEVIATIONS * found.deviation[0]
    low = max(found.low[0], found.mean[0] - spread)
    high = min(found.high[0], found.mean[0] + spread)
    values = np.linspace(low, high, len(RAMP))
    return [
        (float(value), (*colour, 255), f"{value:.4g} {layer.unit}".strip())
        for value, colour in zip(values, RAMP, strict=True)
    ]
