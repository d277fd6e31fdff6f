"""Puts a raster together from stored blocks, as the bytes of a Cloud Optimized GeoTIFF."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tasks.raster.block_store import Blocks, Place
from tasks.raster.layers import Layer
from tasks.raster.pyramid import level_shape
from tasks.raster.tiff import framed_block, header, read_tags


def cog(
    template: bytes, layer: Layer, sizes: Sequence[tuple[int, int]], blocks: Blocks
) -> Iterator[bytes]:
    """The bytes of the file, piece by piece.

    Args:
        template: A BigTIFF with the tags of the raster, without a pixel.
        layer: The layer.
        sizes: Width and height of the raster and its overviews, from `level_sizes`.
        blocks: All blocks of all levels.

    Raises:
        PublishError: A block cannot be read.
    """
    places = [
        [Place(layer.name, level, row, column) for row in range(rows) for column in range(columns)]
        for level, (rows, columns) in enumerate(map(level_shape, sizes))
    ]
    lengths = [[blocks.length(place) for place in level] for level in places]
    yield header(read_tags(template), sizes, lengths)
    for level in reversed(places):
        yield from map(framed_block, blocks.read(level))
