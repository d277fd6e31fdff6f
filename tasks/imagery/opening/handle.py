"""Handles of an image, each for one thread, that are still of the version that was opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rasterio

from tasks.errors import ImageChangedError
from tasks.imagery.image import Image
from tasks.imagery.opening.safety import check_raster
from tasks.imagery.opening.stored import stored
from tasks.imagery.opening.whole_header import whole_header

_WHOLE_INDEX = 1 << 18  # blocks whose places, 16 bytes each, are fetched when an image is opened


@contextmanager
def dataset_of(image: Image, read_role: str | None) -> Iterator[Any]:
    """A handle of an image for one thread; enter `gdal_environment` first.

    Raises:
        ImageChangedError: The image is no longer the version that was opened.
    """
    check_unchanged(image, read_role)
    height, width = image.block_shape
    blocks = -(-image.height // height) * -(-image.width // width)
    # A part of the index that cannot be fetched later costs each of its blocks a time-out.
    with rasterio.Env(GTIFF_USE_DEFER_STRILE_LOADING=blocks > _WHOLE_INDEX), whole_header():
        opened = rasterio.open(image.gdal_name, driver=image.driver)
    with opened as dataset:
        check_raster(image.url, dataset)
        yield dataset


def check_unchanged(image: Image, read_role: str | None) -> None:
    """Make sure that an image is still the version that was opened.

    Raises:
        ImageChangedError: It is not.
    """
    now = stored(image.url, image.path, read_role).etag
    if now != image.etag:
        raise ImageChangedError(
            f"{image.url} was replaced while it was read (version {image.etag}, now {now}): "
            "send the request again."
        )
