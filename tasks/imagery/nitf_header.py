"""The header fields of a NITF that its tiles repeat (MIL-STD-2500C)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rasterio.rpc import RPC

from tasks.imagery.georeference.ichipb import Chip

_MARKINGS = (
    *("CLAS", "CLSY", "CODE", "CTLH", "REL", "DCTP", "DCDT", "DCXM"),
    *("DG", "DGDT", "CLTX", "CATP", "CAUT", "CRSN", "SRDT", "CTLN"),
)
SECURITY = tuple(f"{part}{field}" for part in ("FS", "IS") for field in _MARKINGS)
"""Security fields of the file header (FS) and of the image subheader (IS)."""

_NITF_2_0_FIELDS = ("ISORCE", "FSCLAS", "ISCLAS")  # its other fields have other lengths

_NOT_FOR_CHIPS = {  # records that describe the whole image, and are wrong for a chip of it
    *("BLOCKA", "ICHIPA", "ICHIPB", "J2KLRA"),
    *("GEOLOB", "GRDPSB", "MAPLOB", "REGPTB", "STDIDC"),
}


@dataclass(frozen=True, slots=True)
class NitfHeader:
    """The parts of a NITF's header that its tiles repeat.

    Attributes:
        fields: Header fields by name: the image source and the security markings.
        records: Tagged record extensions (name, content) that are valid for any chip: sensor models
            (RPC00B, RSM), bands, collection.
        chip: Its position in the image it was cut from (ICHIPB), or None for a full image.
        standard: "SICD" or "SIDD", which have their sensor model in XML, or None.
        segments: The XML of that sensor model, from GDAL's metadata domain `xml:DES`; "" if
            `standard` is None.
    """

    fields: dict[str, str]
    records: tuple[tuple[str, bytes], ...]
    chip: Chip | None
    standard: str | None
    segments: str


def nitf_header_of(dataset: Any) -> NitfHeader | None:  # noqa: ANN401 - rasterio has no types
    """The header of an open NITF; None for any other format."""
    if dataset.driver != "NITF":
        return None
    tags = dataset.tags()
    current = tags.get("NITF_FHDR") in ("NITF02.10", "NSIF01.00")
    names = ("ISORCE", *SECURITY) if current else _NITF_2_0_FIELDS
    fields = {name: text for name in names if (text := tags.get(f"NITF_{name}", "").strip())}
    records = _records(dataset)
    kept = tuple((name, content) for name, content in records if name not in _NOT_FOR_CHIPS)
    standard = tags.get("NITF_IID1", "")[:4]
    standard = standard if standard in ("SICD", "SIDD") else None
    segments = dataset.tags(ns="xml:DES").get("xml:DES", "") if standard else ""
    return NitfHeader(fields, kept, _chip(records), standard, segments)


def rpcs_of_nitf(dataset: Any) -> RPC | None:  # noqa: ANN401 - rasterio has no types
    """RPC for the pixels of an open NITF: for a chip, RPC00B is converted from the full image."""
    rpcs = dataset.rpcs
    chip = _chip(_records(dataset)) if rpcs else None
    return chip.rpcs(rpcs) if rpcs and chip else rpcs


def _chip(records: list[tuple[str, bytes]]) -> Chip | None:
    """The position of an image in the one it was cut from."""
    record = dict(records).get("ICHIPB")
    return Chip.parse(record.decode("ascii", "replace")) if record else None


def _records(dataset: Any) -> list[tuple[str, bytes]]:  # noqa: ANN401 - rasterio has no types
    """Name and content of every tagged record extension."""
    try:
        found = dataset.tags(ns="TRE")
    except UnicodeDecodeError:  # rasterio decodes all records at once: one binary record fails all
        return []
    # GDAL escapes the content, and adds a number to the name of a repeated record.
    return [
        (name[:6].rstrip() if len(name) < 7 else name.rpartition("_")[0], _unescaped(text))
        for name, text in found.items()
    ]


def _unescaped(text: str) -> bytes:
    plain = {"0": "\0", "n": "\n"}
    whole = re.sub(r"\\(.)", lambda match: plain.get(match[1], match[1]), text, flags=re.DOTALL)
    return whole.encode("utf-8")
