"""The statistics of a raster's bands, as viewers stretch their contrast by."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.raster.layers import Layer


class Statistics:
    """The statistics of each band of a layer, over the pixels with an answer.

    Attributes:
        count: Pixels with an answer.
        low: (bands,) least value.
        high: (bands,) greatest value.
        pixels: Of a layer of classes, the pixels with each number.
    """

    def __init__(self, layer: Layer) -> None:
        """Start without a pixel."""
        bands = len(layer.bands)
        self._layer, self.count = layer, 0
        self.pixels: Counter[int] = Counter()
        self.low, self.high = np.full(bands, np.inf), np.full(bands, -np.inf)
        self._total, self._squares = np.zeros(bands), np.zeros(bands)

    def add(self, pixels: NDArray[Any]) -> None:
        """Take the pixels (bands, height, width) of a block into account.

        Those without an answer have none in any band.
        """
        for band, values in enumerate(pixels):
            numbers, counts = self._counted(values)
            if not len(numbers):
                return
            if band == 0:
                self.count += int(counts.sum())
            if self._layer.categorical:
                self.pixels.update(dict(zip(numbers.astype(int), counts.astype(int), strict=True)))
            self.low[band] = min(self.low[band], numbers.min())
            self.high[band] = max(self.high[band], numbers.max())
            self._total[band] += (counts * numbers).sum()
            self._squares[band] += (counts * numbers**2).sum()

    def merge(self, other: Statistics) -> None:
        """Take the pixels of other statistics of the same layer into account."""
        self.count += other.count
        self.pixels.update(other.pixels)
        self.low, self.high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        self._total += other._total
        self._squares += other._squares

    @property
    def mean(self) -> NDArray[np.float64]:
        """(bands,) mean value."""
        return self._total / self.count

    @property
    def deviation(self) -> NDArray[np.float64]:
        """(bands,) standard deviation."""
        deviation: NDArray[np.float64] = np.sqrt(
            np.maximum(0.0, self._squares / self.count - self.mean**2)
        )
        return deviation

    def _counted(self, values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The numbers in a band with an answer, and how often each is there."""
        if self._layer.dtype.kind == "f":
            numbers = values[self._layer.valid(values)].astype(np.float64)
            return numbers, np.ones(len(numbers))
        counts = np.bincount(values.ravel(), minlength=int(self._layer.nodata) + 1)
        counts[int(self._layer.nodata)] = 0
        found = np.flatnonzero(counts)
        return found.astype(np.float64), counts[found].astype(np.float64)
