"""An endpoint whose model answers with pixels: the views of each tile that it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.imagery import TilePixels
from tasks.inference.answer.raster import TileRaster
from tasks.inference.endpoint import Endpoint
from tasks.request import RasterOutput
from tasks.request.raster_output import Augmentation

Turn = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class _View:
    """A way to look at a tile.

    Attributes:
        flipped: Whether left and right are exchanged, before it is turned.
        quarters: Quarter turns, anticlockwise.
    """

    flipped: bool
    quarters: int

    def of(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The view of pixels (bands, rows, columns)."""
        seen = pixels[:, :, ::-1] if self.flipped else pixels
        return np.rot90(seen, self.quarters, axes=(1, 2))

    def back(self, bands: NDArray[Any]) -> NDArray[Any]:
        """Bands of the view as bands of the pixels themselves."""
        if bands.ndim != 3:
            return bands  # refused where its shape is checked
        seen = np.rot90(bands, -self.quarters, axes=(1, 2))
        return seen[:, :, ::-1] if self.flipped else seen


VIEWS = {
    Augmentation.NONE: (_View(flipped=False, quarters=0),),
    Augmentation.FLIPS: tuple(_View(*each) for each in product((False, True), (0, 2))),
    Augmentation.TURNS: tuple(_View(*each) for each in product((False, True), range(4))),
}
"""The views of a tile that a model is asked for."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A tile to be sent.

    Attributes:
        views: What the model's endpoint prepared for each view.
        shape: Height and width of the tile.
    """

    views: tuple[Any, ...]
    shape: tuple[int, int]


class RasterEndpoint:
    """Asks another endpoint for each view of a tile; its answers are rasters.

    Attributes:
        tiles_per_call: Maximum number of tiles in one call.
        capacity: That of the other endpoint.
        local: That of the other endpoint.
    """

    def __init__(self, endpoint: Endpoint, output: RasterOutput, tile_size: int) -> None:
        """Ask nothing yet.

        Args:
            endpoint: The model.
            output: What it answers, and which views it is asked for.
            tile_size: Side of a full tile in pixels.
        """
        self._endpoint, self._output, self._tile_size = endpoint, output, tile_size
        self._views = VIEWS[output.augmentation]
        self.tiles_per_call = max(1, endpoint.tiles_per_call // len(self._views))
        self.capacity, self.local = endpoint.capacity, endpoint.local

    def prepare(self, tile: TilePixels) -> _Prepared:
        """Each view of a tile, as the model's endpoint prepares it."""
        shape = tile.shape[1], tile.shape[2]
        pixels = _filled_up(tile.pixels, self._tile_size) if self._output.full_tiles else None
        if pixels is None and len(self._views) == 1:
            return _Prepared((self._endpoint.prepare(tile),), shape)
        whole = tile.pixels if pixels is None else pixels
        views = (TilePixels(tile.tile, view.of(whole), None) for view in self._views)
        return _Prepared(tuple(map(self._endpoint.prepare, views)), shape)

    def ask(self, prepared: Sequence[_Prepared]) -> list[TileRaster]:
        """The model's answers for each tile.

        Raises:
            EndpointError: The model did not answer.
            AnswerError: The answers cannot be read.
        """
        most = self._endpoint.tiles_per_call
        wanted = [view for tile in prepared for view in tile.views]
        answers = [
            answer
            for first in range(0, len(wanted), most)
            for answer in self._endpoint.ask(wanted[first : first + most])
        ]
        count = len(self._views)
        return [
            self._raster(answers[count * at : count * (at + 1)], tile.shape)
            for at, tile in enumerate(prepared)
        ]

    def close(self) -> None:
        """Close the other endpoint."""
        self._endpoint.close()

    def _raster(self, answers: Sequence[object], shape: tuple[int, int]) -> TileRaster:
        turns = [partial(_cut, view, shape) for view in self._views]
        return TileRaster(tuple(zip(answers, turns, strict=True)), self._output, shape)


def _cut(view: _View, shape: tuple[int, int], bands: NDArray[Any]) -> NDArray[Any]:
    """The bands of a view, turned back and without what a tile was filled up with."""
    back = view.back(bands)
    return back[:, : shape[0], : shape[1]] if back.ndim == 3 else back


def _filled_up(pixels: NDArray[Any], size: int) -> NDArray[Any] | None:
    """A tile of the full size, reflected at its right and lower border; None if it has that."""
    _, height, width = pixels.shape
    if (height, width) == (size, size):
        return None
    return np.pad(pixels, ((0, 0), (0, size - height), (0, size - width)), "symmetric")
