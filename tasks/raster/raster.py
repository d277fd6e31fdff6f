"""The raster of a whole image: the blocks of all its regions, those at their seams, overviews."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.errors import PublishError
from tasks.raster.assembly import cog
from tasks.raster.block_store import Blocks, BlockWriter, Place
from tasks.raster.blocks import BLOCK, BlockGrid
from tasks.raster.compression import decompress
from tasks.raster.layers import Layer, layers_of
from tasks.raster.painter import Painter
from tasks.raster.pyramid import build_overviews, level_shape, level_sizes
from tasks.raster.statistics import Statistics
from tasks.request.raster_output import RasterOutput

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Raster:
    """The raster of an image, whole in stored blocks.

    Attributes:
        output: What it holds.
        size: Width and height in pixels.
        blocks: Its blocks, and those of its overviews.
        statistics: The statistics of each layer, by its name.
    """

    output: RasterOutput
    size: tuple[int, int]
    blocks: Blocks
    statistics: Mapping[str, Statistics]

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
        for row, column in product(range(rows), range(columns)):
            (body,) = self.blocks.read([Place(layer.name, level, row, column)])
            part = pixels[:, row * BLOCK :, column * BLOCK :][:, :BLOCK, :BLOCK]
            part[:] = decompress(body, layer)[:, : part.shape[1], : part.shape[2]]
        return pixels

    def cog(self, layer: Layer, template: bytes) -> Iterator[bytes]:
        """The bytes of a layer as a Cloud Optimized GeoTIFF, piece by piece.

        Args:
            layer: The layer.
            template: A BigTIFF of the same size with its tags, without a pixel.

        Raises:
            PublishError: A block cannot be read.
        """
        return cog(template, layer, level_sizes(*self.size), self.blocks)


def put_together(painter: Painter, regions: Iterable[str], scratch: str) -> Raster:
    """Complete a raster: paint the blocks that no region has, and make the overviews.

    Args:
        painter: Paints blocks of the image.
        regions: First part of the URIs of the blocks of each region.
        scratch: First part of the URIs for the blocks that are made here.

    Raises:
        PublishError: Blocks or maps cannot be read, or blocks not be stored.
    """
    grid, layers = painter.grid, layers_of(painter.output)
    blocks = Blocks()
    for prefix in regions:
        try:
            blocks.add_all(prefix)
        except PublishError as error:
            logger.warning("The blocks of %s are painted again: %s", prefix, error)
    rows, columns = BlockGrid(grid).shape
    left = [
        (row, column)
        for row in range(rows)
        for column in range(columns)
        if Place(layers[0].name, 0, row, column) not in blocks
    ]
    sizes = level_sizes(grid.width, grid.height)
    statistics = {}
    with BlockWriter(scratch, blocks) as writer:
        painter.paint_blocks(left, writer)
        writer.flush()
        for layer in layers:
            statistics[layer.name] = build_overviews(
                layer, sizes, _reader(layer, blocks, painter, writer), writer
            )
    return Raster(painter.output, (grid.width, grid.height), blocks, statistics)


def _reader(
    layer: Layer, blocks: Blocks, painter: Painter, writer: BlockWriter
) -> Callable[[int, int], NDArray[Any]]:
    """A function that reads the pixels of a block by row and column; a damaged one is made anew."""

    def read_stored(row: int, column: int) -> NDArray[Any]:
        (body,) = blocks.read([Place(layer.name, 0, row, column)])
        return decompress(body, layer)

    def read(row: int, column: int) -> NDArray[Any]:
        try:
            return read_stored(row, column)
        except (PublishError, ValueError, zlib.error) as error:
            logger.warning("Block %d, %d is painted again: %s", row, column, error)
            painter.paint_blocks([(row, column)], writer)
            writer.flush()
            return read_stored(row, column)

    return read
