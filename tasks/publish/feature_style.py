"""The style that QGIS gives features: a colour for each class, opacity by score, and labels."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree as ET

from tasks.publish.colours import OTHER, class_colours
from tasks.publish.flat_features import LINES, POINTS, POLYGONS
from tasks.request import RasterOutput

_VERSION = "3.22"  # of QGIS, which reads styles of versions before its own
_MOST = 500  # classes with a symbol of their own: QGIS is slow with thousands
_MOST_LABELS = 1000  # at once: QGIS takes minutes to place many that lie close together
_FILL = 60  # of 255: what lies below an outline stays visible
_LABELLED = 2  # pixels of the image on one of a screen: labels are drawn if there are no more
_SCREEN_PIXEL = 0.00028  # metres
_OPACITY = '30 + 70 * "score"'  # percent: a score of 0 is still visible
_LABEL = '"class" || \' \' || format_number("score", 2)'
_SYMBOLS = {
    POLYGONS: ("fill", "SimpleFill"),
    LINES: ("line", "SimpleLine"),
    POINTS: ("marker", "SimpleMarker"),
}
_KINDS = {POINTS: 0, LINES: 1, POLYGONS: 2}  # QGIS's number of a layer's type


def feature_style(
    classes: Mapping[str, int],
    dimension: int,
    pixel_metres: float | None = None,
    output: RasterOutput | None = None,
) -> str:
    """A QML document.

    The most frequent classes have a symbol each, and all others one together.

    Args:
        classes: Number of features of each class.
        dimension: That of the geometries.
        pixel_metres: Size of the image's pixels; without it, labels are drawn at any scale.
        output: The raster whose outlines the features are, which has their colours.
    """
    root = ET.Element(
        "qgis", version=_VERSION, styleCategories="Symbology|Labeling", labelsEnabled="1"
    )
    renderer = ET.SubElement(root, "renderer-v2", type="categorizedSymbol", attr="class")
    categories = ET.SubElement(renderer, "categories")
    symbols = ET.SubElement(renderer, "symbols")
    colours = class_colours(classes, output)
    shown = [(name, name, colours[name]) for name in list(colours)[:_MOST] if _in_xml(name)]
    for number, (value, label, colour) in enumerate([*shown, ("", "other", OTHER)]):
        own = {"symbol": str(number), "value": value, "label": label, "render": "true"}
        ET.SubElement(categories, "category", own)
        _add_symbol(symbols, str(number), colour, dimension)
    _add_labels(root, pixel_metres)
    ET.SubElement(root, "layerGeometryType").text = str(_KINDS[dimension])
    return ET.tostring(root, encoding="unicode")


def _in_xml(text: str) -> bool:
    """Whether XML 1.0 can hold a text."""
    return (
        bool(text)
        and all(each in "\t\n\r" or " " <= each <= "\ud7ff" or each >= "\ue000" for each in text)
        and not {"\ufffe", "\uffff"} & set(text)
    )


def _add_symbol(parent: ET.Element, name: str, colour: str, dimension: int) -> None:
    kind, layer_class = _SYMBOLS[dimension]
    rgb = ",".join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))
    symbol = ET.SubElement(parent, "symbol", name=name, type=kind, alpha="1")
    collection = ET.SubElement(ET.SubElement(symbol, "data_defined_properties"), "Option")
    collection.set("type", "Map")
    _add_option(collection, "name", "")
    properties = ET.SubElement(collection, "Option", name="properties", type="Map")
    alpha = ET.SubElement(properties, "Option", name="alpha", type="Map")
    _add_option(alpha, "active", "true", "bool")
    _add_option(alpha, "expression", _OPACITY)
    _add_option(alpha, "type", "3", "int")  # an expression
    _add_option(collection, "type", "collection")
    layer = ET.SubElement(symbol, "layer", {"class": layer_class, "enabled": "1"})
    properties_of = {
        "fill": {"color": f"{rgb},{_FILL}", "outline_color": f"{rgb},255", "outline_width": "0.4"},
        "line": {"line_color": f"{rgb},255", "line_width": "0.5"},
        "marker": {"color": f"{rgb},255", "outline_color": "255,255,255,255", "size": "2"},
    }
    for key, value in properties_of[kind].items():
        ET.SubElement(layer, "prop", k=key, v=value)


def _add_option(parent: ET.Element, name: str, value: str, kind: str = "QString") -> None:
    ET.SubElement(parent, "Option", name=name, value=value, type=kind)


def _add_labels(root: ET.Element, pixel_metres: float | None) -> None:
    settings = ET.SubElement(ET.SubElement(root, "labeling", type="simple"), "settings")
    style = ET.SubElement(
        settings, "text-style", fieldName=_LABEL, isExpression="1", fontSize="8",
        fontSizeUnit="Point", textColor="0,0,0,255", textOpacity="1",
    )  # fmt: skip
    ET.SubElement(
        style, "text-buffer", bufferDraw="1", bufferSize="0.7", bufferSizeUnits="MM",
        bufferColor="255,255,255,255", bufferOpacity="1",
    )  # fmt: skip
    ET.SubElement(settings, "placement", placement="0", dist="0", priority="5")
    rendering = ET.SubElement(
        settings, "rendering", drawLabels="1", limitNumLabels="1", maxNumLabels=str(_MOST_LABELS)
    )
    if pixel_metres is not None:
        scale = round(pixel_metres * _LABELLED / _SCREEN_PIXEL)
        for name, value in (("scaleVisibility", "1"), ("scaleMin", "0"), ("scaleMax", str(scale))):
            rendering.set(name, value)
