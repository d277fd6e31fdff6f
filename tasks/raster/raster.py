"""The raster of a whole image: the blocks of all its regions, those at their seams, overviews."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import PublishError
from tasks.raster.assembly import cog
from tasks.raster.block_store import Blocks, BlockWriter, Place
from tasks.raster.blocks import BLOCK
from tasks.raster.layers import MAP, Layer, layers_of
from tasks.raster.levels import level_shape, level_sizes
from tasks.raster.painter import Painter
from tasks.raster.pyramid import ReadBlocks, blocks_of, build_overviews
from tasks.raster.statistics import Statistics
from tasks.request.raster_output import RasterOutput

logger = logging.getLogger(__name__)

_DAMAGED = PublishError, ValueError, zlib.error


@dataclass(frozen=True)
class Raster:
    """The raster of an image, whole in stored blocks.

    Attributes:
        output: What it holds.
        size: Width and height in pixels.
        blocks: Its blocks, and those of its overviews.
        statistics: The statistics of each layer, by its name.
        read: Reads blocks of a layer, not of its overviews; damaged ones are painted again.
    """

    output: RasterOutput
    size: tuple[int, int]
    blocks: Blocks
    statistics: Mapping[str, Statistics]
    read: Callable[[Layer, Sequence[Place]], Iterable[NDArray[Any]]]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its layers, each a file."""
        return layers_of(self.output)

    def reduced(self, layer: Layer, size: int) -> NDArray[Any]:
        """(bands, height, width) the smallest overview of a layer with a side of `size` pixels.

        The layer itself, if it is smaller.

        Raises:
            PublishError: A block cannot be read.
        """
        sizes = level_sizes(*self.size)
        level = max((at for at, each in enumerate(sizes) if max(each) >= size), default=0)
        width, height = sizes[level]
        pixels = np.empty((len(layer.bands), height, width), layer.dtype)
        rows, columns = level_shape(sizes[level])
        places = [
            Place(layer.name, level, row, column)
            for row, column in product(range(rows), range(columns))
        ]
        for place, block in zip(places, blocks_of(layer, self.blocks)(places), strict=True):
            part = pixels[:, place.row * BLOCK :, place.column * BLOCK :][:, :BLOCK, :BLOCK]
            part[:] = block[:, : part.shape[1], : part.shape[2]]
        return pixels

    def cog(self, layer: Layer, template: bytes) -> Iterator[bytes]:
        """The bytes of a layer as a Cloud Optimized GeoTIFF, piece by piece.

        Args:
            layer: The layer.
            template: A BigTIFF of the same size with its tags, without a pixel.

        Raises:
            PublishError: A block cannot be read.
        """
        return cog(template, layer, *self.size, self.blocks)


def put_together(painter: Painter, regions: Iterable[str], scratch: str) -> Raster:
    """Complete a raster: paint the blocks that no region has, and make the overviews.

    Args:
        painter: Paints blocks of the image.
        regions: First part of the URIs of the blocks of each region.
        scratch: First part of the URIs for the blocks that are made here.

    Raises:
        PublishError: Blocks or maps cannot be read, or blocks not be stored.
    """
    width, height = painter.grid.width, painter.grid.height
    blocks = Blocks(width, height)
    for prefix in regions:
        try:
            blocks.add_all(prefix)
        except PublishError as error:
            logger.warning("The blocks of %s are painted again: %s", prefix, error)
    writer = blocks.writer(scratch)
    painter.paint_blocks(blocks.missing(MAP).tolist(), writer)
    writer.flush()
    repair = _Repair(painter, blocks, blocks.writer(f"{scratch}.again"))
    statistics = {
        layer.name: build_overviews(layer, width, height, partial(repair.read, layer), writer)
        for layer in layers_of(painter.output)
    }
    writer.flush()
    return Raster(painter.output, (width, height), blocks, statistics, repair.read)


class _Repair:
    """Reads blocks; those that are damaged are painted again, by one thread at a time."""

    def __init__(self, painter: Painter, blocks: Blocks, writer: BlockWriter) -> None:
        self._painter, self._blocks, self._writer = painter, blocks, writer
        self._lock = Lock()

    def read(self, layer: Layer, places: Sequence[Place]) -> Iterator[NDArray[Any]]:
        """The pixels of blocks of a layer."""
        read, done = blocks_of(layer, self._blocks), 0
        try:
            for pixels in read(places):
                yield pixels
                done += 1
        except _DAMAGED:
            for place in places[done:]:
                yield self._intact(read, place)

    def _intact(self, read: ReadBlocks, place: Place) -> NDArray[Any]:
        try:
            (pixels,) = read([place])
        except _DAMAGED as error:
            logger.warning("Block %d, %d is painted again: %s", place.row, place.column, error)
            with self._lock:
                self._painter.paint_blocks([(place.row, place.column)], self._writer)
                self._writer.flush()
            (pixels,) = read([place])
        return pixels
