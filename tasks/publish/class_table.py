"""The names of a class map's classes in a file beside it, which GDAL and QGIS read with the map.

GDAL's persistent auxiliary metadata (`x.tif.aux.xml` of `x.tif`): a raster attribute table, and the
names of the numbers from 0 up, which the legend of QGIS shows beside the map's own colours.
"""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree as ET

from tasks.request import RasterOutput

_WHOLE, _TEXT = "0", "2"  # data types of a field, as GDAL numbers them
_FIELDS = (
    ("Value", _WHOLE, "5"),  # the last number is GDAL's for what a field is used as
    ("Class", _TEXT, "2"),
    ("Red", _WHOLE, "6"),
    ("Green", _WHOLE, "7"),
    ("Blue", _WHOLE, "8"),
    ("Alpha", _WHOLE, "9"),
)


def class_table(output: RasterOutput, colours: Mapping[int, tuple[int, int, int, int]]) -> bytes:
    """The bytes of the file.

    Args:
        output: Has the classes.
        colours: Red, green, blue and alpha of each class by its number.
    """
    names = output.class_names
    root = ET.Element("PAMDataset")
    band = ET.SubElement(root, "PAMRasterBand", band="1")
    if names:
        categories = ET.SubElement(band, "CategoryNames")
        for number in range(max(names) + 1):
            ET.SubElement(categories, "Category").text = names.get(number, "")
    table = ET.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for index, (name, kind, usage) in enumerate(_FIELDS):
        field = ET.SubElement(table, "FieldDefn", index=str(index))
        for tag, text in (("Name", name), ("Type", kind), ("Usage", usage)):
            ET.SubElement(field, tag).text = text
    for index, (number, name) in enumerate(sorted(names.items())):
        row = ET.SubElement(table, "Row", index=str(index))
        for value in (number, name, *colours[number]):
            ET.SubElement(row, "F").text = str(value)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8"))  # GDAL reads none with an XML declaration
