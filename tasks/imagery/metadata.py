"""Where an image comes from, as its own header tells: the `sourceMetadata` of a feature."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

_FORMATS = {"JP2OpenJPEG": "JPEG2000"}

_TIMES = (
    "%Y%m%d%H%M%S",  # NITF 2.1, MIL-STD-2500C
    "%d%H%M%SZ%b%y",  # NITF 2.0
    "%Y:%m:%d %H:%M:%S",  # TIFF 6.0 and EXIF
)


def source_metadata(url: str, driver: str, tags: Mapping[str, str]) -> list[dict[str, str | None]]:
    """What an image's header tells of its source, in the keys that OSML gives for NITF.

    Args:
        url: As the request names the image.
        driver: GDAL's name of its format.
        tags: GDAL's metadata of the dataset.

    Returns:
        One object: `location`, `format`, `category` (NITF's ICAT: VIS, SAR, MS, …), `sourceId` (a
        title), `sourceDT` (time of collection, ISO 8601, UTC); None for what the header lacks.
    """
    title = _first(tags, "NITF_FTITLE", "TIFFTAG_DOCUMENTNAME", "TIFFTAG_IMAGEDESCRIPTION")
    taken = _first(tags, "NITF_IDATIM", "EXIF_DateTimeOriginal", "TIFFTAG_DATETIME")
    return [
        {
            "location": url,
            "format": _FORMATS.get(driver, driver.upper()),
            "category": tags.get("NITF_ICAT"),
            "sourceId": title,
            "sourceDT": _time(taken),
        }
    ]


def _first(tags: Mapping[str, str], *names: str) -> str | None:
    return next((tags[name] for name in names if name in tags), None)


def _time(text: str | None) -> str | None:
    """A header's date and time as ISO 8601; they are in UTC, or do not say."""
    for form in _TIMES:
        with suppress(ValueError):
            parsed = datetime.strptime((text or "").strip(), form)  # noqa: DTZ007 - told by Z below
            return parsed.isoformat(timespec="seconds") + "Z"
    return None
