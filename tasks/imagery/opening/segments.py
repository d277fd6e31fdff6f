"""Which image of a file is the image: pages of a TIFF, segments of a NITF.

The image is the one that is left when all are set aside that are only there for another: masks,
smaller versions, legends. Where more than one is left, to choose would be to lose the others
without a word, so the file is refused, with the list of what it holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import rasterio

from tasks.errors import ImageError
from tasks.imagery.opening.tiff_page import Page

_AIDS = {  # NITF's ICAT of what goes with an image, MIL-STD-2500C table A-3, and what it is
    "LEG": "a legend",
    "PAT": "a colour patch",
    "CLOUD": "a cloud mask",
    "LOCG": "a location grid",
    "MATR": "a matrix",
}
_KINDS = {1: "uint", 2: "int", 3: "float", 5: "complex int", 6: "complex"}  # TIFF's SampleFormat


@dataclass(frozen=True, slots=True)
class Segment:
    """One image of a file.

    Attributes:
        prefix: What GDAL puts before the file's path to name it.
        width: Pixels in x.
        height: Pixels in y.
        bands: Its bands.
        dtype: Its pixel type, as its format tells.
        aid: What it is for another image, or "".
        continues: Whether it says that its rows go on below those of another.
    """

    prefix: str
    width: int
    height: int
    bands: int
    dtype: str
    aid: str = ""
    continues: bool = False

    def __str__(self) -> str:
        """How an error lists it."""
        aid = f", {self.aid}" if self.aid else ""
        return (
            f"{self.prefix.rstrip(':')} ({self.width} × {self.height}, "
            f"{self.bands} × {self.dtype}{aid})"
        )


def main_page(url: str, pages: list[Page]) -> Page:
    """The page of a TIFF that is its image.

    Args:
        url: As the request names it.
        pages: All of its directories.

    Raises:
        ImageError: There is none, or more than one.
    """
    number = {f"GTIFF_DIR:{page.number}:": page for page in pages}
    chosen = number[main_segment(url, map(_page_segment, pages)).prefix]
    if chosen is not pages[0] and any(page.mask for page in pages):
        # GDAL gives a page that is asked for by its number no mask, so what is blank were lost.
        raise ImageError(
            f"{url} has its image on page {chosen.number}, and a mask: write the image first, "
            f"with gdal_translate -of COG GTIFF_DIR:{chosen.number}:IN OUT.tif."
        )
    return chosen


def nitf_segments(path: str) -> list[Segment]:
    """The image segments of a NITF; enter `gdal_environment` first.

    Args:
        path: Its file.
    """
    with rasterio.open(path, driver="NITF") as dataset:
        count = len(dataset.subdatasets)
        if not count:
            return [_nitf_segment("", dataset)]
    found = []
    for number in range(count):
        prefix = f"NITF_IM:{number}:"
        with rasterio.open(prefix + path, driver="NITF") as dataset:
            found.append((_nitf_segment(prefix, dataset), _magnification(dataset)))
    best = max(magnification for _, magnification in found)
    return [
        segment if magnification >= best or segment.aid else _reduced(segment)
        for segment, magnification in found
    ]


def main_segment(url: str, segments: Iterable[Segment]) -> Segment:
    """The image of a file that is not there for another.

    A segment of half the size or less, with the same proportions, bands and type as another, is
    a smaller version of it, whether it says so or not.

    Args:
        url: As the request names it.
        segments: All that the file holds, in its order.

    Raises:
        ImageError: There is none, or more than one.
    """
    every = list(segments)
    if len(every) == 1:
        return every[0]
    images = [one for one in every if not one.aid]
    images = [one for one in images if not any(_smaller(one, other) for other in images)]
    if len(images) == 1:
        return images[0]
    listed = "; ".join(map(str, every[:20])) + ("; …" if len(every) > 20 else "")
    if any(one.continues for one in images):
        raise ImageError(
            f"{url} holds one image of {sum(one.height for one in images)} rows, cut into "
            f"{len(images)} segments: {listed}. Write it as one segment, or as a tiled GeoTIFF."
        )
    if not images:
        raise ImageError(
            f"{url} holds no image of its own, but {listed or 'nothing'}: give the full image."
        )
    raise ImageError(
        f"{url} holds {len(images)} images, and which one is meant is not told: {listed}. Give "
        f"each a file of its own, with gdal_translate -of COG {images[0].prefix}IN OUT.tif."
    )


def _page_segment(page: Page) -> Segment:
    aid = "a mask" if page.mask else "a smaller version" if page.reduced else ""
    dtype = f"{_KINDS.get(page.kind, 'type ' + str(page.kind))}{page.bits}"
    prefix = f"GTIFF_DIR:{page.number}:"
    return Segment(prefix, page.width, page.height, page.bands, dtype, aid)


def _nitf_segment(prefix: str, dataset: Any) -> Segment:  # noqa: ANN401 - rasterio has no types
    tags = dataset.tags()
    attached = int(tags.get("NITF_IALVL") or 0) > 0
    below = int(tags.get("NITF_ILOC_ROW") or 0) > 0
    return Segment(
        prefix,
        dataset.width,
        dataset.height,
        dataset.count,
        dataset.dtypes[0] if dataset.count else "no pixels",
        _AIDS.get(tags.get("NITF_ICAT", "").strip(), ""),
        continues=attached and below,
    )


def _magnification(dataset: Any) -> float:  # noqa: ANN401 - rasterio has no types
    """NITF's IMAG: 1.0, or /4 for a quarter of the full size, MIL-STD-2500C table A-3."""
    text = dataset.tags().get("NITF_IMAG", "").strip()
    with suppress(ValueError, ZeroDivisionError):
        return 1 / float(text[1:]) if text.startswith("/") else float(text)
    return 1.0


def _reduced(segment: Segment) -> Segment:
    return Segment(
        segment.prefix,
        segment.width,
        segment.height,
        segment.bands,
        segment.dtype,
        "a smaller version",
    )


def _smaller(one: Segment, other: Segment) -> bool:
    """Whether a segment is a smaller version of another; sides may be rounded by a pixel."""
    if (one.bands, one.dtype) != (other.bands, other.dtype) or not (one.width and one.height):
        return False
    factor = max(other.width / one.width, other.height / one.height)
    alike = (
        abs(other.width / factor - one.width) <= 1 and abs(other.height / factor - one.height) <= 1
    )
    return factor >= 2 and alike
