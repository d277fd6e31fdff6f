"""The `sourceMetadata` of a feature: title, category and time, from the header of the image."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

_FORMATS = {"JP2OpenJPEG": "JPEG2000"}
_MAX_TITLE = 1_024  # characters: every feature repeats it, and a TIFF does not limit it

_TITLE_TAGS = (
    "NITF_FTITLE",
    "TIFFTAG_DOCUMENTNAME",
    "TIFFTAG_IMAGEDESCRIPTION",
    "EXIF_ImageDescription",
    "Title",  # PNG, ISO 15948
)
_TIME_TAGS = (  # the time of collection first, then that of the file
    "NITF_IDATIM",
    "ACQUISITIONDATETIME",  # GDAL's IMAGERY domain
    "EXIF_DateTimeOriginal",
    "TIFFTAG_DATETIME",
    "EXIF_DateTime",
    "Creation_Time",  # PNG
)
_TIME_ZONE_TAGS = {  # EXIF 2.31: the tag that holds the time zone of another tag
    "EXIF_DateTimeOriginal": "EXIF_OffsetTimeOriginal",
    "EXIF_DateTime": "EXIF_OffsetTime",
}
_TIME_FORMATS = (
    "%Y%m%d%H%M%S",  # NITF 2.1, MIL-STD-2500C
    "%d%H%M%SZ%b%y",  # NITF 2.0
    "%Y:%m:%d %H:%M:%S",  # TIFF 6.0 and EXIF
    "%Y:%m:%d %H:%M:%S%z",  # EXIF 2.31
    "%Y-%m-%d %H:%M:%S",  # GDAL's IMAGERY domain
    "%Y-%m-%dT%H:%M:%S%z",  # ISO 8601
)


def header_tags(dataset: Any) -> dict[str, str]:  # noqa: ANN401 - rasterio has no types
    """The header fields of an open dataset, from GDAL's IMAGERY, EXIF and default domains."""
    return {**dataset.tags(ns="IMAGERY"), **dataset.tags(ns="EXIF"), **dataset.tags()}


def source_metadata(url: str, driver: str, tags: Mapping[str, str]) -> list[dict[str, str | None]]:
    """Describe the source of an image, with the keys that OSML uses for NITF.

    Args:
        url: URL of the image, from the request.
        driver: GDAL driver of its format.
        tags: Header fields from `header_tags`.

    Returns:
        One object: `location`, `format`, `category` (NITF's ICAT: VIS, SAR, MS, …), `sourceId`
        (the title), `sourceDT` (time of collection, ISO 8601, UTC). A value is None if the header
        does not have it.
    """
    title = next((tags[name] for name in _TITLE_TAGS if name in tags), None)
    times = (
        _time(tags[name] + tags.get(_TIME_ZONE_TAGS.get(name, ""), ""))
        for name in _TIME_TAGS
        if name in tags
    )
    return [
        {
            "location": url,
            "format": _FORMATS.get(driver, driver.upper()),
            "category": tags.get("NITF_ICAT"),
            "sourceId": None if title is None else title[:_MAX_TITLE],
            "sourceDT": next((time for time in times if time), None),
        }
    ]


def _time(text: str) -> str | None:
    """Convert a header's date and time to ISO 8601; without a time zone it is taken as UTC."""
    for form in _TIME_FORMATS:
        with suppress(ValueError):
            return _utc(datetime.strptime(text.strip(), form))  # noqa: DTZ007 - `_utc` adds it
    with suppress(ValueError):
        return _utc(parsedate_to_datetime(text))  # PNG: RFC 1123
    return None


def _utc(time: datetime) -> str:
    aware = time if time.tzinfo else time.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
