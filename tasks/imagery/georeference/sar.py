"""Georeference of SAR images by their own sensor model: SICD and SIDD (NGA.STND.0024, 0025).

Needs the extra `sar` (sarkit, lxml). Both formats are NITF files that hold the model as XML in a
data extension segment. GDAL returns that XML as metadata, but does not use it.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from lxml import etree

from tasks.imagery.georeference.sicd import SicdGeoreference
from tasks.imagery.georeference.sidd import SiddGeoreference

_MAX_ORDER = 32  # of a polynomial; real products have far lower orders


def sar_georeference(
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    standard: str,
    dem_uri: str | None,
) -> SicdGeoreference | SiddGeoreference:
    """The sensor model of an open SICD or SIDD.

    Args:
        dataset: The open dataset.
        standard: "SICD" or "SIDD".
        dem_uri: Elevation model onto which a SICD is projected, or None.

    Raises:
        ValueError: There is no usable sensor model; the message has the reason.
        ImageError: The elevation model cannot be read.
    """
    try:
        segments = dataset.tags(ns="xml:DES").get("xml:DES", "")
    except UnicodeDecodeError as error:
        raise ValueError(f"{standard} whose XML cannot be decoded") from error
    # SIDD002001 is the first segment of a file's second product. A SICD has a single product.
    product = dataset.tags().get("NITF_IID1", "")[4:7] if standard == "SIDD" else "1"
    xml = model_xml(segments, standard, max(int(product), 1) if product.isdecimal() else 1)
    try:
        if standard == "SICD":
            return SicdGeoreference(xml, dataset.height, dem_uri)
        return SiddGeoreference(xml, dataset.height)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # sarkit raises these for missing or invalid elements; the message may have any length
        reason = f"{error}"[:100]
        raise ValueError(f"{standard} whose sensor model cannot be used: {reason}") from error


def model_xml(segments: str, standard: str, product: int = 1) -> Any:  # noqa: ANN401
    """Parse the XML of one product of a file, as an lxml tree.

    The file is not trusted: nothing is fetched, no entity is expanded, and polynomials whose order
    would exhaust the memory are refused.

    Args:
        segments: The data extension segments of a file, from GDAL's metadata domain `xml:DES`.
        standard: "SICD" or "SIDD".
        product: Number of the document of that standard, from 1.

    Raises:
        ValueError: The document is missing or not safe.
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
            if not exponent.strip().isdecimal() or int(exponent) > _MAX_ORDER:
                raise ValueError(f"{standard} with a polynomial beyond order {_MAX_ORDER}")
    return etree.ElementTree(deepcopy(found))
