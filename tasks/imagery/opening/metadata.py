"""Where an image comes from, as its own header tells: the `sourceMetadata` of a feature."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

_FORMATS = {"JP2OpenJPEG": "JPEG2000"}
_LONGEST = 1_024  # characters of a title: it is repeated in every feature, and a TIFF's has no end

_TITLES = (
    "NITF_FTITLE",
    "TIFFTAG_DOCUMENTNAME",
    "TIFFTAG_IMAGEDESCRIPTION",
    "EXIF_ImageDescription",
    "Title",  # PNG, ISO 15948
)
_TAKEN = (  # the time of collection goes before that of the file
    "NITF_IDATIM",
    "ACQUISITIONDATETIME",  # GDAL's IMAGERY domain
    "EXIF_DateTimeOriginal",
    "TIFFTAG_DATETIME",
    "EXIF_DateTime",
    "Creation_Time",  # PNG
)
_OFFSETS = {  # EXIF 2.31: the time zone of a time
    "EXIF_DateTimeOriginal": "EXIF_OffsetTimeOriginal",
    "EXIF_DateTime": "EXIF_OffsetTime",
}
_TIMES = (
    "%Y%m%d%H%M%S",  # NITF 2.1, MIL-STD-2500C
    "%d%H%M%SZ%b%y",  # NITF 2.0
    "%Y:%m:%d %H:%M:%S",  # TIFF 6.0 and EXIF
    "%Y:%m:%d %H:%M:%S%z",  # EXIF 2.31
    "%Y-%m-%d %H:%M:%S",  # GDAL's IMAGERY domain
    "%Y-%m-%dT%H:%M:%S%z",  # ISO 8601
)


def header_tags(dataset: Any) -> dict[str, str]:  # noqa: ANN401 - rasterio has no types
    """The metadata of an open dataset that tell of its source, from all of GDAL's domains."""
    return {**dataset.tags(ns="IMAGERY"), **dataset.tags(ns="EXIF"), **dataset.tags()}


def source_metadata(url: str, driver: str, tags: Mapping[str, str]) -> list[dict[str, str | None]]:
    """What an image's header tells of its source, in the keys that OSML gives for NITF.

    Args:
        url: As the request names the image.
        driver: GDAL's name of its format.
        tags: As from `header_tags`.

    Returns:
        One object: `location`, `format`, `category` (NITF's ICAT: VIS, SAR, MS, …), `sourceId` (a
        title), `sourceDT` (time of collection, ISO 8601, UTC); None for what the header lacks.
    """
    title = next((tags[name] for name in _TITLES if name in tags), None)
    times = (
        _time(tags[name] + tags.get(_OFFSETS.get(name, ""), "")) for name in _TAKEN if name in tags
    )
    return [
        {
            "location": url,
            "format": _FORMATS.get(driver, driver.upper()),
            "category": tags.get("NITF_ICAT"),
            "sourceId": None if title is None else title[:_LONGEST],
            "sourceDT": next((time for time in times if time), None),
        }
    ]


def _time(text: str) -> str | None:
    """A header's date and time as ISO 8601; one that tells no time zone is taken for UTC."""
    for form in _TIMES:
        with suppress(ValueError):
            return _utc(datetime.strptime(text.strip(), form))  # noqa: DTZ007 - told by `_utc`
    with suppress(ValueError):
        return _utc(parsedate_to_datetime(text))  # PNG: RFC 1123
    return None


def _utc(time: datetime) -> str:
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
