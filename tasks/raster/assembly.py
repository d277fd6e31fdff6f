"""Puts a raster together from stored blocks, as the bytes of a Cloud Optimized GeoTIFF."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.raster.block_store import Blocks, Place
from tasks.raster.layers import Layer
from tasks.raster.levels import level_shape, level_sizes
from tasks.raster.tiff import framed_block, header, read_tags


def cog(template: bytes, layer: Layer, width: int, height: int, blocks: Blocks) -> Iterator[bytes]:
    """The bytes of the file, piece by piece.

    Args:
        template: A BigTIFF with the tags of the raster, without a pixel.
        layer: The layer.
        width: Pixels of the raster.
        height: Pixels of the raster.
        blocks: All blocks of all levels.

    Raises:
        PublishError: A block cannot be read.
    """
    sizes = level_sizes(width, height)
    lengths = [blocks.lengths(layer.name, level).ravel() for level in range(len(sizes))]
    yield header(read_tags(template), sizes, lengths)
    for level in reversed(range(len(sizes))):
        rows, columns = level_shape(sizes[level])
        places = (
            Place(layer.name, level, row, column)
            for row in range(rows)
            for column in range(columns)
        )
        yield from map(framed_block, blocks.read(places))
