"""What a NITF's header says of the image, and its tiles have to say too."""

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

_IN_NITF_2_0 = ("ISORCE", "FSCLAS", "ISCLAS")  # whose other fields have other lengths

_WHOLE_ONLY = {  # records that hold for the whole image's own pixels, not for a chip of them
    *("BLOCKA", "ICHIPA", "ICHIPB", "J2KLRA"),
    *("GEOLOB", "GRDPSB", "MAPLOB", "REGPTB", "STDIDC"),
}


@dataclass(frozen=True, slots=True)
class NitfSource:
    """The parts of a NITF's headers that its tiles repeat.

    Attributes:
        header: Fields of MIL-STD-2500C by name: who made the image, and its security markings.
        records: Tagged record extensions, name and content, that hold for any chip: sensor models
            (RPC00B, RSM), bands, collection.
        chip: Where it lies in the image it was cut from (ICHIPB), or None where it is whole.
        standard: "SICD" or "SIDD", whose sensor model stands in XML, or None.
        segments: That XML, in GDAL's metadata domain `xml:DES`; empty without a standard.
    """

    header: dict[str, str]
    records: tuple[tuple[str, bytes], ...]
    chip: Chip | None
    standard: str | None
    segments: str


def nitf_source_of(dataset: Any) -> NitfSource | None:  # noqa: ANN401 - rasterio has no types
    """What an open NITF says of itself; None for any other format."""
    if dataset.driver != "NITF":
        return None
    tags = dataset.tags()
    current = tags.get("NITF_FHDR") in ("NITF02.10", "NSIF01.00")
    names = ("ISORCE", *SECURITY) if current else _IN_NITF_2_0
    header = {name: text for name in names if (text := tags.get(f"NITF_{name}", "").strip())}
    records = _records(dataset)
    kept = tuple((name, content) for name, content in records if name not in _WHOLE_ONLY)
    standard = tags.get("NITF_IID1", "")[:4]
    standard = standard if standard in ("SICD", "SIDD") else None
    segments = dataset.tags(ns="xml:DES").get("xml:DES", "") if standard else ""
    return NitfSource(header, kept, _chip(records), standard, segments)


def rpcs_of_nitf(dataset: Any) -> RPC | None:  # noqa: ANN401 - rasterio has no types
    """RPC for the pixels of an open NITF: RPC00B is of the full image, also in a chip of it."""
    rpcs = dataset.rpcs
    chip = _chip(_records(dataset)) if rpcs else None
    return chip.rpcs(rpcs) if rpcs and chip else rpcs


def _chip(records: list[tuple[str, bytes]]) -> Chip | None:
    """Where an image lies in the one it was cut from."""
    record = dict(records).get("ICHIPB")
    return Chip.parse(record.decode("ascii", "replace")) if record else None


def _records(dataset: Any) -> list[tuple[str, bytes]]:  # noqa: ANN401 - rasterio has no types
    """Name and content of every tagged record extension."""
    try:
        found = dataset.tags(ns="TRE")
    except UnicodeDecodeError:  # rasterio takes all for UTF-8; a binary one among them hides them
        return []
    # GDAL escapes the content, and tells twins apart by a number.
    return [
        (name[:6].rstrip() if len(name) < 7 else name.rpartition("_")[0], _unescaped(text))
        for name, text in found.items()
    ]


def _unescaped(text: str) -> bytes:
    plain = {"0": "\0", "n": "\n"}
    whole = re.sub(r"\\(.)", lambda match: plain.get(match[1], match[1]), text, flags=re.DOTALL)
    return whole.encode("utf-8")
