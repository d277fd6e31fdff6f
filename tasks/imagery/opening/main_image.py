"""Finds the main image of a file that may hold several: pages of a TIFF, segments of a NITF.

The main image is the only one that is not an auxiliary image: a mask, a version at reduced
resolution, a legend. If a file has several such images, choosing one would silently lose the
others, so the file is refused with a list of its images.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import rasterio

from tasks.errors import ImageError
from tasks.imagery.opening.allowed_inputs import WITHOUT_SIDECARS
from tasks.imagery.opening.decompression_limits import check_auxiliary_page, check_page
from tasks.imagery.opening.header_checks import check_hfa, check_jp2, check_nitf
from tasks.imagery.opening.stored_file import ReadBytes
from tasks.imagery.opening.tiff import Page, read_pages

_AUXILIARY = {  # NITF's ICAT (MIL-STD-2500C table A-3) of segments that go with an image
    "LEG": "a legend",
    "PAT": "a colour patch",
    "CLOUD": "a cloud mask",
    "LOCG": "a location grid",
    "MATR": "a matrix",
}
_REDUCED = "a version at reduced resolution"
_SAMPLE_FORMATS = {1: "uint", 2: "int", 3: "float", 5: "complex int", 6: "complex"}  # TIFF 6.0


@dataclass(frozen=True, slots=True)
class Segment:
    """One of the images in a file.

    Attributes:
        prefix: The prefix with which GDAL opens this image of the file.
        width: Pixels in x.
        height: Pixels in y.
        bands: Number of bands.
        dtype: Pixel type, as its format describes it.
        auxiliary: Its kind as an auxiliary image, such as "a mask"; "" if it is not auxiliary.
        continues: Whether it is declared to continue the rows of another segment.
    """

    prefix: str
    width: int
    height: int
    bands: int
    dtype: str
    auxiliary: str = ""
    continues: bool = False

    def __str__(self) -> str:
        """The image in the list of an error message."""
        auxiliary = f", {self.auxiliary}" if self.auxiliary else ""
        return (
            f"{self.prefix.rstrip(':')} ({self.width} × {self.height}, "
            f"{self.bands} × {self.dtype}{auxiliary})"
        )


def find_main_image(url: str, path: str, driver: str, read: ReadBytes, size: int) -> str:
    """Check the headers of a file and find its main image, inside a `gdal_environment`.

    Args:
        url: URL of the image, from the request.
        path: Path with which GDAL opens the file.
        driver: GDAL driver of its format.
        read: Reads the file.
        size: Size of the file in bytes.

    Returns:
        The prefix that GDAL needs before the path to open the main image and no other file, or "".

    Raises:
        ImageError: The file is damaged, cut short or not safe, or has no main image or several.
    """
    match driver:
        case "GTiff":
            return _main_image_of_tiff(url, read, size)
        case "NITF":
            check_nitf(url, read, size)
            return main_segment(url, nitf_segments(path)).prefix
        case "JP2OpenJPEG":
            check_jp2(url, read, size)
        case "HFA":
            check_hfa(url, read, size)
            return WITHOUT_SIDECARS
    return ""


def _main_image_of_tiff(url: str, read: ReadBytes, size: int) -> str:
    pages = read_pages(url, read)
    main = main_page(url, pages)
    for page in pages:
        if page is main or page.mask:
            check_page(url, page, read, size)
        if page is not main and (page.mask or page.reduced):
            check_auxiliary_page(url, page)
    return f"GTIFF_DIR:{main.number}:" if main.number > 1 else ""


def main_page(url: str, pages: list[Page]) -> Page:
    """Find the page of a TIFF that is the main image.

    Args:
        url: URL of the image, from the request.
        pages: All pages of the file.

    Raises:
        ImageError: No page is the main image, or several could be.
    """
    by_prefix = {f"GTIFF_DIR:{page.number}:": page for page in pages}
    chosen = by_prefix[main_segment(url, map(_page_segment, pages)).prefix]
    if chosen is not pages[0] and any(page.mask for page in pages):
        # GDAL does not apply the mask to a page that is opened by its number.
        raise ImageError(
            f"{url} has its image on page {chosen.number}, and a mask: write the image first, "
            f"with gdal_translate -of COG GTIFF_DIR:{chosen.number}:IN OUT.tif."
        )
    return chosen


def nitf_segments(path: str) -> list[Segment]:
    """List the image segments of a NITF, inside a `gdal_environment`.

    Args:
        path: Path with which GDAL opens the file.
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
    full = max(magnification for _, magnification in found)
    return [
        segment
        if magnification >= full or segment.auxiliary
        else replace(segment, auxiliary=_REDUCED, continues=False)
        for segment, magnification in found
    ]


def main_segment(url: str, segments: Iterable[Segment]) -> Segment:
    """Find the main image among the images of a file.

    An image of half the size of another or less, with the same aspect ratio, bands and pixel type,
    is taken as a version of it at reduced resolution, whether it is declared so or not.

    Args:
        url: URL of the image, from the request.
        segments: All images of the file, in its order.

    Raises:
        ImageError: No image is the main one, or several could be.
    """
    every = list(segments)
    if len(every) == 1:
        return every[0]
    images = [one for one in every if not one.auxiliary]
    images = [one for one in images if not any(_is_reduced(one, other) for other in images)]
    if len(images) == 1:
        return images[0]
    listed = "; ".join(map(str, every[:20])) + ("; …" if len(every) > 20 else "")
    if any(one.continues for one in images):
        raise ImageError(
            f"{url} holds one image of {sum(one.height for one in images)} rows, split into "
            f"{len(images)} segments: {listed}. Write it as one segment, or as a tiled GeoTIFF."
        )
    if not images:
        raise ImageError(
            f"{url} holds no main image, only {listed or 'nothing'}: give the full image."
        )
    raise ImageError(
        f"{url} holds {len(images)} images, and nothing says which one is meant: {listed}. Write "
        f"each to its own file, with gdal_translate -of COG {images[0].prefix}IN OUT.tif."
    )


def _page_segment(page: Page) -> Segment:
    auxiliary = "a mask" if page.mask else _REDUCED if page.reduced else ""
    kind = _SAMPLE_FORMATS.get(page.sample_format, f"type {page.sample_format}")
    prefix = f"GTIFF_DIR:{page.number}:"
    return Segment(prefix, page.width, page.height, page.bands, f"{kind}{page.bits}", auxiliary)


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
        _AUXILIARY.get(tags.get("NITF_ICAT", "").strip(), ""),
        continues=attached and below,
    )


def _magnification(dataset: Any) -> float:  # noqa: ANN401 - rasterio has no types
    """Magnification by NITF's IMAG: "1.0", or "/4" for a quarter (MIL-STD-2500C table A-3)."""
    text = dataset.tags().get("NITF_IMAG", "").strip()
    with suppress(ValueError, ZeroDivisionError):
        return 1 / float(text[1:]) if text.startswith("/") else float(text)
    return 1.0


def _is_reduced(one: Segment, other: Segment) -> bool:
    """Whether `one` is a version of `other` at reduced resolution, up to a pixel of rounding."""
    if (one.bands, one.dtype) != (other.bands, other.dtype) or not (one.width and one.height):
        return False
    factor = max(other.width / one.width, other.height / one.height)
    alike = (
        abs(other.width / factor - one.width) <= 1 and abs(other.height / factor - one.height) <= 1
    )
    return factor >= 2 and alike
