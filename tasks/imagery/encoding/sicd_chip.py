"""Encodes tiles of a SICD as SICD files, with their sensor model (NGA.STND.0024-1, -2).

The XML of a chip gives its rows and columns in the full image; all other elements are valid for any
chip. Needs the extra `sar` (sarkit, lxml).
"""

from __future__ import annotations

import io
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from lxml import etree
from rasterio.windows import Window
from sarkit import sicd

from tasks.imagery.encoding.nitf_geotags import NitfGeotags, igeolo
from tasks.imagery.georeference.sar import model_xml
from tasks.imagery.georeference.transformers import Points
from tasks.imagery.image import Image
from tasks.imagery.nitf_header import SECURITY
from tasks.imagery.reading.tile_pixels import TilePixels

_SPARE = 400  # bytes reserved for the XML: another chip's numbers may have more digits
_CORNERS = ("1:FRFC", "2:FRLC", "3:LRLC", "4:LRFC")  # clockwise from the first pixel


@dataclass(frozen=True, slots=True)
class _Template:
    """A file without its pixels and XML, and the offsets of its georeference.

    Attributes:
        header: The bytes before the pixels.
        igeolo: Offset of IGEOLO in the header.
        extension: The bytes between pixels and XML: the subheader of the data extension segment.
        polygon: Offset of DESSHLPG in the extension.
        xml_length: Length of the XML in bytes.
    """

    header: bytes
    igeolo: int
    extension: bytes
    polygon: int
    xml_length: int


class SicdWriter:
    """Encodes tiles of an image as SICD, uncompressed, pixel-interleaved."""

    def __init__(self, image: Image) -> None:
        assert image.nitf is not None
        self._header = image.nitf.fields
        self._title = (image.source_metadata[0]["sourceId"] or "") if image.source_metadata else ""
        self._geotags = NitfGeotags(image)
        self._xml = model_xml(image.nitf.segments, "SICD")
        self._templates: dict[tuple[int, ...], _Template] = {}

    def __call__(self, tile: TilePixels) -> bytes:
        """Encode a tile of two bands or one complex band; GDAL's version decides which it is."""
        window = tile.tile.window
        corners = self._geotags.corners(window)
        xml = self._chip(window, corners)
        if tile.pixels.shape not in self._templates:
            self._templates[tile.pixels.shape] = self._template(xml)
        template = self._templates[tile.pixels.shape]
        header, extension = bytearray(template.header), bytearray(template.extension)
        if corners is not None:
            header[template.igeolo : template.igeolo + 60] = igeolo(corners)
            extension[template.polygon : template.polygon + 125] = _polygon(corners)
        bands = tile.pixels
        first, second = bands if len(bands) == 2 else (bands[0].real, bands[0].imag)
        pixels = np.empty((window.height, window.width, 2), first.dtype.newbyteorder(">"))
        pixels[..., 0], pixels[..., 1] = first, second
        # White space is allowed after the root element.
        text = etree.tostring(xml).ljust(template.xml_length)
        return b"".join((header, pixels.data, extension, text))

    def _chip(self, window: Window, corners: Points | None) -> Any:  # noqa: ANN401 - lxml
        """The XML of a chip, with its first row and column in the full image."""
        xml = deepcopy(self._xml)
        data = xml.find("{*}ImageData")
        for name, more in (("FirstRow", window.row_off), ("FirstCol", window.col_off)):
            first = data.find(f"{{*}}{name}")
            first.text = str(int(first.text) + int(more))
        data.find("{*}NumRows").text = str(int(window.height))
        data.find("{*}NumCols").text = str(int(window.width))
        if corners is not None:
            for index, (longitude, latitude) in zip(_CORNERS, corners.tolist(), strict=True):
                corner = xml.find(f"{{*}}GeoData/{{*}}ImageCorners/{{*}}ICP[@index='{index}']")
                corner.find("{*}Lat").text = f"{latitude:.9f}"
                corner.find("{*}Lon").text = f"{longitude:.9f}"
        return xml

    def _template(self, xml: Any) -> _Template:  # noqa: ANN401 - lxml has no types
        """The file that sarkit writes for a chip with this XML."""
        markings = self._security("IS")
        file = sicd.jbp_from_nitf_metadata(
            sicd.NitfMetadata(
                xmltree=xml,
                file_header_part=sicd.NitfFileHeaderPart(
                    ostaid="Swath", ftitle=self._title, security=self._security("FS")
                ),
                im_subheader_part=sicd.NitfImSubheaderPart(
                    isorce=self._header.get("ISORCE", ""), security=markings
                ),
                de_subheader_part=sicd.NitfDeSubheaderPart(security=markings),
            )
        )
        image, extension = file["ImageSegments"][0], file["DataExtensionSegments"][0]
        extension["DESDATA"].size += _SPARE
        file.finalize()
        memory: Any = io.BytesIO()  # jbpy's file protocol does not include BytesIO
        file.dump(memory)
        whole = memory.getvalue()
        start, end = extension["subheader"].get_offset(), extension["DESDATA"].get_offset()
        return _Template(
            whole[: image["Data"].get_offset()],
            image["subheader"]["IGEOLO"].get_offset(),
            whole[start:end],
            extension["subheader"]["DESSHLPG"].get_offset() - start,
            extension["DESDATA"].size,
        )

    def _security(self, part: str) -> sicd.NitfSecurityFields:
        """The security markings of the file header ("FS") or the image subheader ("IS")."""
        given = {name: self._header.get(name, "") for name in SECURITY if name[:2] == part}
        fields = {name[2:].lower(): text for name, text in given.items()}
        return sicd.NitfSecurityFields(**fields | {"clas": fields["clas"] or "U"})


def _polygon(corners: Points) -> bytes:
    """The 125 bytes of DESSHLPG: latitude and longitude of the corners, as a closed ring."""
    closed = [*corners.tolist(), corners[0].tolist()]
    return "".join(f"{lat:+012.8f}{lon:+013.8f}" for lon, lat in closed).encode()
