"""An endpoint whose model answers with pixels: the views of each tile that it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window

from tasks.errors import AnswerError
from tasks.imagery import TilePixels
from tasks.inference.answer.raster import TileRaster, ViewAnswer
from tasks.inference.endpoint import Endpoint
from tasks.raster.tile_maps import TileMap
from tasks.request import RasterOutput
from tasks.request.raster_output import Augmentation


@dataclass(frozen=True, slots=True)
class _View:
    """A way to look at a tile.

    Attributes:
        flipped: Whether left and right are exchanged, before it is turned.
        quarters: Quarter turns, anticlockwise.
    """

    flipped: bool
    quarters: int

    def of(self, tile: TilePixels) -> TilePixels:
        """The view of a tile, which has its upper left corner where the tile has it."""
        if not (self.flipped or self.quarters):
            return tile
        valid = tile.valid
        mask = None if valid is None else self._turned(valid[np.newaxis])[0]
        window = tile.tile.window
        height, width = self.shape((window.height, window.width))
        placed = Window(window.col_off, window.row_off, width, height)
        return TilePixels(replace(tile.tile, window=placed), self._turned(tile.pixels), mask)

    def shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the view of a tile of this height and width."""
        return (shape[1], shape[0]) if self.quarters % 2 else shape

    def back(self, bands: NDArray[Any]) -> NDArray[Any]:
        """Bands of the view as bands of the tile itself."""
        seen = np.rot90(bands, -self.quarters, axes=(1, 2))
        return seen[:, :, ::-1] if self.flipped else seen

    def _turned(self, pixels: NDArray[Any]) -> NDArray[Any]:
        seen = pixels[:, :, ::-1] if self.flipped else pixels
        return np.rot90(seen, self.quarters, axes=(1, 2))


VIEWS = {
    Augmentation.NONE: (_View(flipped=False, quarters=0),),
    Augmentation.FLIPS: tuple(_View(*each) for each in product((False, True), (0, 2))),
    Augmentation.TURNS: tuple(_View(*each) for each in product((False, True), range(4))),
}
"""The views of a tile that a model is asked for."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A tile to be sent, and what it was answered so far.

    Attributes:
        views: What the model's endpoint prepared for each view that is not answered yet.
        shape: Height and width of the tile as it is sent.
        own: Height and width of the tile itself.
        raster: The answers: a call that is made again asks for the other views alone.
    """

    views: dict[_View, Any]
    shape: tuple[int, int]
    own: tuple[int, int]
    raster: TileRaster


class RasterEndpoint:
    """Asks another endpoint for each view of a tile; its answers are rasters.

    Attributes:
        tiles_per_call: Maximum number of tiles in one call.
        capacity: That of the other endpoint.
        local: That of the other endpoint.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        output: RasterOutput,
        tile_size: int,
        window: tuple[int, int] | None = None,
    ) -> None:
        """Ask nothing yet.

        Args:
            endpoint: The model.
            output: What it answers, and which views it is asked for.
            tile_size: Side of a full tile in pixels.
            window: Width and height of a tile in pixels of the image, if it is sent at another
                resolution: its map is in these.
        """
        self._endpoint, self._output, self._tile_size = endpoint, output, tile_size
        self._views = VIEWS[output.augmentation]
        self._in_image = _resampling(output, window)
        self.tiles_per_call = max(1, endpoint.tiles_per_call // len(self._views))
        self.capacity, self.local = endpoint.capacity, endpoint.local

    def prepare(self, tile: TilePixels) -> _Prepared:
        """Each view of a tile, as the model's endpoint prepares it."""
        own = tile.shape[1], tile.shape[2]
        whole = _filled_up(tile, self._tile_size) if self._output.full_tiles else tile
        views = {view: self._endpoint.prepare(view.of(whole)) for view in self._views}
        shape = whole.shape[1], whole.shape[2]
        return _Prepared(views, shape, own, TileRaster(self._output, len(views), self._in_image))

    def ask(self, prepared: Sequence[_Prepared]) -> list[TileRaster]:
        """The model's answers for each tile.

        Raises:
            EndpointError: The model did not answer.
            AnswerError: The answers cannot be read.
        """
        while call := self._next_call(prepared):
            answers = self._endpoint.ask([tile.views[view] for tile, view in call])
            if len(answers) != len(call):
                raise AnswerError(f"{len(answers)} answers were given for {len(call)} tiles.")
            for (tile, view), answer in zip(call, answers, strict=True):
                del tile.views[view]
                back = partial(_cut, view, tile.own)
                tile.raster.add(ViewAnswer(answer, view.shape(tile.shape), back))
        return [tile.raster for tile in prepared]

    def close(self) -> None:
        """Close the other endpoint."""
        self._endpoint.close()

    def _next_call(self, prepared: Sequence[_Prepared]) -> list[tuple[_Prepared, _View]]:
        """The views of the next call, which have one shape; none if all are answered."""
        left = [(tile, view) for tile in prepared if not tile.raster.error for view in tile.views]
        shapes = [view.shape(tile.shape) for tile, view in left]
        alike = [each for each, shape in zip(left, shapes, strict=True) if shape == shapes[0]]
        return alike[: self._endpoint.tiles_per_call]


def _resampling(
    output: RasterOutput, window: tuple[int, int] | None
) -> Callable[[TileMap], TileMap] | None:
    """Makes maps in pixels of the image, of tiles sent at another resolution; None for others."""
    if window is None:
        return None
    from tasks.inference.resampled_map import resampled_map  # noqa: PLC0415 - late, as it is slow

    return partial(resampled_map, output=output, size=window)


def _cut(view: _View, shape: tuple[int, int], bands: NDArray[Any]) -> NDArray[Any]:
    """The bands of a view, turned back and without what a tile was filled up with."""
    return view.back(bands)[:, : shape[0], : shape[1]]


def _filled_up(tile: TilePixels, size: int) -> TilePixels:
    """A tile of the full size, reflected at its right and lower border."""
    _, height, width = tile.shape
    if (height, width) == (size, size):
        return tile
    borders = (0, size - height), (0, size - width)
    pixels = np.pad(tile.pixels, ((0, 0), *borders), "symmetric")
    valid = tile.valid
    mask = None if valid is None else np.pad(valid, borders, "symmetric")
    window = Window(tile.tile.window.col_off, tile.tile.window.row_off, size, size)
    return TilePixels(replace(tile.tile, window=window), pixels, mask)
