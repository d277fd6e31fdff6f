"""What a file holds, by its own headers: refused where it is not safe, else its image found."""

from __future__ import annotations

from tasks.imagery.opening.bombs import check_aside, check_page
from tasks.imagery.opening.headers import check_hfa, check_jp2, check_nitf
from tasks.imagery.opening.safety import WITHOUT_SIDECARS
from tasks.imagery.opening.segments import main_page, main_segment, nitf_segments
from tasks.imagery.opening.tiff import pages
from tasks.imagery.opening.tiff_page import Read


def main_image(url: str, path: str, driver: str, read: Read, size: int) -> str:
    """Find the image of a file; enter `gdal_environment` first.

    Args:
        url: As the request names it.
        path: Where GDAL finds the file.
        driver: GDAL's name of its format.
        read: The file.
        size: Its bytes.

    Returns:
        What GDAL puts before the path to open this image, with no other file, or "".

    Raises:
        ImageError: It is damaged, cut short or made to harm, or holds no image or several.
    """
    match driver:
        case "GTiff":
            return _main_of_tiff(url, read, size)
        case "NITF":
            check_nitf(url, read, size)
            return main_segment(url, nitf_segments(path)).prefix
        case "JP2OpenJPEG":
            check_jp2(url, read, size)
        case "HFA":
            check_hfa(url, read, size)
            return WITHOUT_SIDECARS
    return ""


def _main_of_tiff(url: str, read: Read, size: int) -> str:
    every = pages(url, read)
    main = main_page(url, every)
    for page in every:
        if page is main or page.mask:
            check_page(url, page, read, size)
        if page is not main and (page.mask or page.reduced):
            check_aside(url, page)
    return f"GTIFF_DIR:{main.number}:" if main.number > 1 else ""
