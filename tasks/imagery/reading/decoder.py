"""Decodes windows of an image into bands."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from threading import Event
from typing import Any

from rasterio.windows import Window

from tasks.imagery.image import Image
from tasks.imagery.opening.dataset import open_dataset
from tasks.imagery.reading.bands import Band
from tasks.imagery.reading.blocks import stored_bytes
from tasks.imagery.reading.windows import slices


class Decoder:
    """Decodes windows of an image, always in the same thread, with a dataset of its own."""

    def __init__(
        self,
        image: Image,
        read_role: str | None,
        stop: Event,
        on_read: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._on_read = on_read
        self._image, self._read_role, self._stop = image, read_role, stop
        self._dataset: Any = None
        self._open = ExitStack()

    @property
    def dataset(self) -> Any:  # noqa: ANN401 - rasterio has no types
        """The open dataset, inside a `gdal_environment`."""
        if self._dataset is None:
            opened = open_dataset(self._image, self._read_role, self._stop)
            self._dataset = self._open.enter_context(opened)
        return self._dataset

    def decode(self, window: Window, band: Band) -> None:
        """Decode a window into its part of a band, inside a `gdal_environment`."""
        here = slices(window, band.window)
        self.dataset.read(window=window, out=band.pixels[:, *here])
        self._on_read(stored_bytes(self._image, self.dataset, window))
        if band.mask is not None:
            band.mask[here] = self.dataset.dataset_mask(window=window) != 0

    def close(self) -> None:
        """Close the dataset; must be called in the thread that used it."""
        self._open.close()
        self._open, self._dataset = ExitStack(), None
