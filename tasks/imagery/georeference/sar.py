"""Georeference of SAR images by their own sensor model: SICD and SIDD (NGA.STND.0024, 0025).

Needs the extra `sar` (sarkit, lxml). Both stand in NITF files, with the model as XML in a data
extension segment, of which GDAL reads nothing else.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from lxml import etree

from tasks.imagery.georeference.sicd import SicdGeoreference
from tasks.imagery.georeference.sidd import SiddGeoreference

_HIGHEST_ORDER = 32  # of a polynomial; products stay well below


def sar_georeference(
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    standard: str,
    dem_uri: str | None,
) -> SicdGeoreference | SiddGeoreference:
    """The sensor model of an open SICD or SIDD.

    Args:
        dataset: Its handle.
        standard: "SICD" or "SIDD".
        dem_uri: Elevation model over which a SICD is projected, or None.

    Raises:
        ValueError: It has none, or none that can be used: the reason.
        ImageError: The elevation model cannot be read.
    """
    try:
        segments = dataset.tags(ns="xml:DES").get("xml:DES", "")
    except UnicodeDecodeError as error:
        raise ValueError(f"{standard} whose XML cannot be decoded") from error
    # SIDD002001 is the first segment of a file's second product; SICD001 is one of its only one
    product = dataset.tags().get("NITF_IID1", "")[4:7] if standard == "SIDD" else "1"
    xml = model_xml(segments, standard, max(int(product), 1) if product.isdecimal() else 1)
    try:
        if standard == "SICD":
            return SicdGeoreference(xml, dataset.height, dem_uri)
        return SiddGeoreference(xml, dataset.height)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # what sarkit makes of absent or broken elements, which may be of any length
        reason = f"{error}"[:100]
        raise ValueError(f"{standard} whose sensor model cannot be used: {reason}") from error


def model_xml(segments: str, standard: str, product: int = 1) -> Any:  # noqa: ANN401
    """The XML of one product of a file, as a tree of lxml's.

    The file is not trusted: nothing is fetched, no entity is expanded, and no polynomial is of an
    order that would fill the memory.

    Args:
        segments: A file's data extension segments as GDAL's metadata domain `xml:DES` has them.
        standard: "SICD" or "SIDD".
        product: Which of the documents of that standard, counted from 1.

    Raises:
        ValueError: There is none, or none that is safe.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(segments.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"{standard} whose XML cannot be parsed") from error
    if root.getroottree().docinfo.doctype or next(root.iter(etree.Entity), None) is not None:
        raise ValueError(f"{standard} whose XML declares or uses entities")
    documents = [
        element
        for element in root.iterfind(f".//{{*}}{standard}")
        if (etree.QName(element).namespace or "").startswith(f"urn:{standard}:")
    ]
    if len(documents) < product:
        raise ValueError(f"{standard} without its XML")
    found = documents[product - 1]
    for coefficient in found.iterfind(".//{*}Coef"):
        for exponent in coefficient.attrib.values():
            if not exponent.strip().isdecimal() or int(exponent) > _HIGHEST_ORDER:
                raise ValueError(f"{standard} with a polynomial beyond order {_HIGHEST_ORDER}")
    return etree.ElementTree(deepcopy(found))
