"""Tiles of a SICD as SICDs of their own (NGA.STND.0024-1, -2): the sensor model goes with them.

A chip's XML tells which rows and columns of the full image it has; all else holds for any chip.
Needs the extra `sar` (sarkit, lxml).
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

_ROOM = 400  # bytes for the numbers of one chip's XML that are longer than another's
_CORNERS = ("1:FRFC", "2:FRLC", "3:LRLC", "4:LRFC")  # clockwise from the first pixel


@dataclass(frozen=True, slots=True)
class _Sample:
    """All of a file but its pixels and XML, and where it tells its place.

    Attributes:
        header: What stands before the pixels.
        igeolo: Where IGEOLO stands in it.
        extension: What stands between pixels and XML: the subheader of the data extension segment.
        polygon: Where DESSHLPG stands in it.
        xml_length: Bytes of the XML.
    """

    header: bytes
    igeolo: int
    extension: bytes
    polygon: int
    xml_length: int


class SicdWriter:
    """Encodes an image's tiles as SICD, uncompressed, pixel by pixel."""

    def __init__(self, image: Image) -> None:
        assert image.nitf is not None
        self._header = image.nitf.fields
        self._title = (image.source_metadata[0]["sourceId"] or "") if image.source_metadata else ""
        self._place = NitfGeotags(image)
        self._xml = model_xml(image.nitf.segments, "SICD")
        self._samples: dict[tuple[int, ...], _Sample] = {}

    def __call__(self, tile: TilePixels) -> bytes:
        """The file of a tile: of two bands, or one complex band, as GDAL's version has it."""
        window = tile.tile.window
        corners = self._place.corners(window)
        xml = self._chip(window, corners)
        if tile.pixels.shape not in self._samples:
            self._samples[tile.pixels.shape] = self._sample(xml)
        sample = self._samples[tile.pixels.shape]
        header, extension = bytearray(sample.header), bytearray(sample.extension)
        if corners is not None:
            header[sample.igeolo : sample.igeolo + 60] = igeolo(corners)
            extension[sample.polygon : sample.polygon + 125] = _polygon(corners)
        bands = tile.pixels
        first, second = bands if len(bands) == 2 else (bands[0].real, bands[0].imag)
        pixels = np.empty((window.height, window.width, 2), first.dtype.newbyteorder(">"))
        pixels[..., 0], pixels[..., 1] = first, second
        text = etree.tostring(xml).ljust(sample.xml_length)  # white space may follow the root
        return b"".join((header, pixels.data, extension, text))

    def _chip(self, window: Window, corners: Points | None) -> Any:  # noqa: ANN401 - lxml
        """The XML of a chip: SICD counts rows and columns from the full image's first."""
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

    def _sample(self, xml: Any) -> _Sample:  # noqa: ANN401 - lxml has no types
        """What sarkit writes for a chip."""
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
        extension["DESDATA"].size += _ROOM
        file.finalize()
        memory: Any = io.BytesIO()  # that jbpy's protocol for files leaves out
        file.dump(memory)
        whole = memory.getvalue()
        start, end = extension["subheader"].get_offset(), extension["DESDATA"].get_offset()
        return _Sample(
            whole[: image["Data"].get_offset()],
            image["subheader"]["IGEOLO"].get_offset(),
            whole[start:end],
            extension["subheader"]["DESSHLPG"].get_offset() - start,
            extension["DESDATA"].size,
        )

    def _security(self, part: str) -> sicd.NitfSecurityFields:
        """The markings of a header ("FS") or subheader ("IS")."""
        given = {name: self._header.get(name, "") for name in SECURITY if name[:2] == part}
        fields = {name[2:].lower(): text for name, text in given.items()}
        return sicd.NitfSecurityFields(**fields | {"clas": fields["clas"] or "U"})


def _polygon(corners: Points) -> bytes:
    """The 125 bytes of DESSHLPG: latitude and longitude of the corners, the first one twice."""
    closed = [*corners.tolist(), corners[0].tolist()]
    return "".join(f"{lat:+012.8f}{lon:+013.8f}" for lon, lat in closed).encode()
