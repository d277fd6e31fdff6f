"""The pictures of a page: the image's quick look, and the raster over it."""

from __future__ import annotations

import base64
import logging
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tasks.errors import SwathError
from tasks.imagery import Image

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from tasks.publish.preview import RasterLayer

logger = logging.getLogger(__name__)

SIZE = 2048
"""Pixels of the longer side of a picture."""

_QUALITY = 82


class QuickLook(NamedTuple):
    """The picture of an image.

    Attributes:
        url: A data URL; empty if there is no picture.
        note: What is to be said of it, in words; or why there is none.
    """

    url: str
    note: str


class Overlay(NamedTuple):
    """A raster to lay over the image.

    Attributes:
        url: A data URL.
        legend: Red, green and blue, and the text, of each entry.
        classes: Red, green and blue of each class by its name, which its outlines have too.
    """

    url: str
    legend: list[tuple[tuple[int, int, int], str]]
    classes: dict[str, tuple[int, int, int]]


def quick_look(image: Image, read_role: str | None = None) -> QuickLook:
    """The image in a few pixels, from its overviews, as the preview shows it.

    The results are whole without it: where the image cannot be read any more, there is none.

    Args:
        image: The image.
        read_role: IAM role to read it with, or None.
    """
    # late: a job without a page does not need the imports
    from PIL import Image as Pictures  # noqa: PLC0415

    from tasks.publish.preview.picture import background  # noqa: PLC0415
    from tasks.publish.preview.size import scaled  # noqa: PLC0415

    size = scaled(image.size, SIZE) if max(image.size) > SIZE else image.size
    try:
        pixels, note = background(image, size, read_role)
    except (SwathError, OSError) as error:
        logger.warning("The page has no picture: %s", error)
        return QuickLook("", f"No picture: {error}")
    return QuickLook(_data_url(Pictures.fromarray(pixels), "JPEG", quality=_QUALITY), note)


def overlay(layer: RasterLayer) -> Overlay:
    """A raster as a picture, transparent where it has no answer."""
    from PIL import Image as Pictures  # noqa: PLC0415 - as above

    alpha = np.where(layer.seen, np.uint8(255), np.uint8(0))
    picture = Pictures.fromarray(np.dstack([layer.pixels, alpha]))
    return Overlay(_data_url(picture, "PNG"), list(layer.legend), dict(layer.classes))


def _data_url(picture: Picture, encoding: str, **options: int) -> str:
    sink = BytesIO()
    picture.save(sink, encoding, **options)
    body = base64.b64encode(sink.getvalue()).decode()
    return f"data:image/{encoding.lower()};base64,{body}"
