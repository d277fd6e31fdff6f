"""Opens an image again to read its pixels, after a check that it is still the same version."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, get_ident
from typing import Any

import rasterio
from rasterio.errors import RasterioIOError

from tasks.errors import ImageChangedError
from tasks.imagery.environment import gdal_options
from tasks.imagery.image import Image
from tasks.imagery.opening.allowed_inputs import check_raster
from tasks.imagery.opening.stored_file import find_stored_file

_MAX_EAGER_INDEX = 1 << 18  # blocks: an index up to this size is fetched whole on opening
_LOGGER = logging.getLogger("rasterio._env")
_TAG_NOT_READ = "IO error during reading of"  # libtiff's warning


@contextmanager
def open_dataset(image: Image, read_role: str | None, stop: Event | None = None) -> Iterator[Any]:
    """Open an image for reading in one thread, inside a `gdal_environment`.

    Args:
        image: The image, with the version that must not have changed.
        read_role: IAM role to read S3 with, or None for the process's own identity.
        stop: Ends the repetitions of a request that S3 does not answer.

    Raises:
        ImageChangedError: The image was replaced since it was opened.
        ImageUnreachableError: Its file cannot be fetched.
    """
    check_unchanged(image, read_role, stop)
    height, width = image.block_shape
    blocks = -(-image.height // height) * -(-image.width // width)
    # With deferred loading, a part of the index that cannot be fetched costs one time-out for
    # each of its blocks.
    deferred = blocks > _MAX_EAGER_INDEX
    with gdal_options(GTIFF_USE_DEFER_STRILE_LOADING=deferred), require_complete_header():
        options = {} if image.overview is None else {"OVERVIEW_LEVEL": image.overview}
        opened = rasterio.open(image.gdal_name, driver=image.driver, **options)
    with opened as dataset:
        check_raster(image.url, dataset)
        yield dataset


def check_unchanged(image: Image, read_role: str | None, stop: Event | None = None) -> None:
    """Check that an image is still the version that was opened.

    Raises:
        ImageChangedError: The image was replaced since it was opened.
        ImageUnreachableError: Its file cannot be fetched.
    """
    now = find_stored_file(image.url, image.path, read_role, stop).etag
    if now != image.etag:
        raise ImageChangedError(
            f"{image.url} was replaced while it was read (version {image.etag}, now {now}): "
            "send the request again."
        )


@contextmanager
def require_complete_header() -> Iterator[None]:
    """Fail if GDAL could not read a tag of a TIFF that this thread opens inside the context.

    GDAL itself only warns, and opens the image without the tag, for example without its
    georeference or nodata value.

    Raises:
        RasterioIOError: A tag could not be read.
    """
    handler = _TagErrorHandler()
    _LOGGER.addHandler(handler)
    try:
        yield
    finally:
        _LOGGER.removeHandler(handler)
    if handler.message:
        raise RasterioIOError(handler.message)


class _TagErrorHandler(logging.Handler):
    """Stores GDAL's first warning about an unreadable tag in the thread that created the handler.

    Attributes:
        message: The warning, or "".
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.message = ""
        self._thread = get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Store the warning."""
        text = record.getMessage()
        if record.thread == self._thread and _TAG_NOT_READ in text and not self.message:
            self.message = text
