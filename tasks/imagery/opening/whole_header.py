"""Notice a header of which a part could not be fetched.

GDAL opens a TIFF without the tags that it could not read, and only warns: an image without its
georeference or its nodata, as if it never had them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident

from rasterio.errors import RasterioIOError

_LOGGER = logging.getLogger("rasterio._env")
_LOST = "IO error during reading of"  # libtiff's words


@contextmanager
def whole_header() -> Iterator[None]:
    """While it is open, this thread opens images whole or not at all.

    Raises:
        RasterioIOError: A part of a header could not be read.
    """
    lost = _Lost()
    _LOGGER.addHandler(lost)
    try:
        yield
    finally:
        _LOGGER.removeHandler(lost)
    if lost.message:
        raise RasterioIOError(lost.message)


class _Lost(logging.Handler):
    """Keeps the first warning of a lost tag that GDAL gave in the thread that made it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.message = ""
        self._thread = get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of a warning."""
        text = record.getMessage()
        if record.thread == self._thread and _LOST in text and not self.message:
            self.message = text
