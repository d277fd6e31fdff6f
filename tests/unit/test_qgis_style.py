"""The style beside a raster: what QGIS reads of it, for every kind of raster."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks.publish.qgis_style import qgis_style
from tasks.raster import Raster, layers_of
from tasks.raster.block_store import Blocks
from tasks.raster.statistics import Statistics
from tasks.request import RasterOutput

NAN = np.float32("nan")


def raster(fields: dict[str, Any], pixels: NDArray[Any]) -> Raster:
    """A raster whose statistics are those of pixels (bands, height, width)."""
    output = RasterOutput.model_validate(fields)
    layer = layers_of(output)[0]
    statistics = Statistics(layer)
    statistics.add(pixels.astype(layer.dtype))
    size = pixels.shape[2], pixels.shape[1]
    return Raster(output, size, Blocks(*size), {layer.name: statistics}, lambda *_: [])


def renderer(fields: dict[str, Any], pixels: NDArray[Any]) -> ET.Element:
    style = qgis_style(raster(fields, pixels))
    assert style is not None
    found = ET.fromstring(style).find("pipe/rasterrenderer")
    assert found is not None
    assert found.get("band") == "1"
    return found


def entries(found: ET.Element, tag: str) -> list[tuple[str | None, ...]]:
    keys = "value", "color", "alpha", "label"
    return [tuple(entry.get(key) for key in keys) for entry in found.iter(tag)]


def test_classes_have_their_names_and_colours_and_no_other_number_is_listed() -> None:
    classes = [
        {"value": 300, "name": "<water> & ice", "colour": "#0000ff"},
        {"value": 7, "name": "forêt"},
    ]
    found = renderer({"values": "classes", "classes": classes}, np.array([[[7, 7, 65_535]]]))
    assert found.get("type") == "paletted"
    assert entries(found, "paletteEntry") == [
        ("7", "#e69f00", "255", "forêt"),
        ("300", "#0000ff", "255", "<water> & ice"),
    ]


def test_classes_without_names_are_those_that_pixels_have() -> None:
    found = renderer({"values": "classes"}, np.array([[[4, 0, 255, 4]]]))
    assert entries(found, "paletteEntry") == [
        ("0", "#0072b2", "255", "class 0"),
        ("4", "#56b4e9", "255", "class 4"),
    ]


def test_pixels_without_a_class_are_transparent() -> None:
    fields = {
        "values": "probabilities",
        "activation": "sigmoid",
        "classes": [{"value": 1, "name": "water"}],
    }
    found = renderer(fields, np.array([[[0, 1]]]))
    assert entries(found, "paletteEntry") == [
        ("0", "#000000", "0", "no class"),
        ("1", "#0072b2", "255", "water"),
    ]


def test_values_have_a_ramp_that_a_few_extreme_ones_do_not_flatten() -> None:
    pixels = np.zeros((2, 1, 1002), np.float32)
    pixels[0, 0, :1000] = np.linspace(10, 30, 1000)
    pixels[0, 0, 1000:] = 200, NAN
    pixels[1] = NAN
    fields = {"values": "values", "bands": ["height", "error"], "unit": "m"}
    found = renderer(fields, pixels)
    assert found.get("type") == "singlebandpseudocolor"
    (shader,) = found.iter("colorrampshader")
    known = pixels[0, 0, :1001].astype(np.float64)
    high = known.mean() + 2 * known.std()
    assert float(shader.get("minimumValue", "nan")) == 10
    assert float(shader.get("maximumValue", "nan")) == pytest.approx(high)
    items = entries(shader, "item")
    np.testing.assert_allclose(
        [float(item[0] or "nan") for item in items], np.linspace(10, high, 5), rtol=1e-8
    )
    assert (items[0][1], items[-1][1]) == ("#440154", "#fde725")
    assert items[0][3] == "10 m"
    assert [each.get("suffix") for each in shader.iter("rampLegendSettings")] == [" m"]


def test_a_raster_without_an_answer_has_no_style() -> None:
    assert qgis_style(raster({"values": "values"}, np.full((1, 2, 2), NAN))) is None
    assert qgis_style(raster({"values": "classes"}, np.full((1, 2, 2), 255))) is None
