"""Paints blocks of a raster from the maps of tiles, and stores them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rasterio.windows import Window

from tasks.grid.roi import RegionOfInterest
from tasks.grid.tiles import Grid, Region, Span, Tile
from tasks.raster.block_store import BlockWriter, Place, indexed_blocks
from tasks.raster.blocks import BLOCK, BlockGrid
from tasks.raster.compression import BlockCompressor
from tasks.raster.layers import pixels_of, stored_layers
from tasks.raster.painting import Painted, paint
from tasks.raster.row_strips import STRIP_BYTES, row_strips
from tasks.raster.threads import in_order, threads_for
from tasks.raster.tile_maps import TileMap, band_count, map_dtype
from tasks.request.raster_output import RasterOutput

ReadMap = Callable[[Tile], TileMap | None]
"""Reads the map of a tile, or None if the model has not answered for it."""

_COPIES = 4  # of a strip's bands that painting has in memory
_STRIPE = 8  # columns of blocks


@dataclass(frozen=True)
class _Work:
    """A block to paint: its row and column, its pixels, and the maps of tiles that overlap it."""

    row: int
    column: int
    window: Window
    maps: Sequence[tuple[Tile, TileMap]]


@dataclass(frozen=True)
class Painter:
    """Paints blocks of an image's raster.

    Attributes:
        grid: The tiles of the image.
        output: What the maps hold, and what is made of them.
        roi: The region of interest; pixels whose centre lies outside have no answer.
        read_map: Reads the map of a tile.
    """

    grid: Grid
    output: RasterOutput
    roi: RegionOfInterest | None
    read_map: ReadMap

    def paint_region(self, region: Region, prefix: str) -> None:
        """Paint and store the blocks that only tiles of a region overlap.

        Args:
            region: The region; all its tiles have been answered that will be.
            prefix: First part of the URIs to store them under.

        Raises:
            PublishError: A map cannot be read, or a block not be stored.
        """
        with indexed_blocks(prefix) as writer:
            self.paint_blocks(_by_stripes(*BlockGrid(self.grid).inside(region)), writer)

    def paint_blocks(self, blocks: Iterable[Sequence[int]], writer: BlockWriter) -> None:
        """Paint and store blocks, given by row and column, in threads.

        Raises:
            PublishError: A map cannot be read, or a block not be stored.
        """
        threads = threads_for(self._block_bytes)
        painted = in_order(
            self._block, self._work(blocks), threads=threads, weight=lambda _: 1, most=threads
        )
        for bodies in painted:
            for place, body in bodies:
                writer.add(place, body)

    @property
    def _block_bytes(self) -> int:
        """About what a block needs: strips, and the maps of the tiles that overlap it."""
        height, width = BLOCK + self.grid.tile_height, BLOCK + self.grid.tile_width
        maps = band_count(self.output) * height * width * map_dtype(self.output).itemsize
        return _COPIES * min(STRIP_BYTES, BLOCK * self._row_bytes) + maps

    @property
    def _row_bytes(self) -> int:
        """Bytes of a row of a block while it is painted."""
        return band_count(self.output) * BLOCK * np.dtype(np.float64).itemsize

    def _work(self, blocks: Iterable[Sequence[int]]) -> Iterator[_Work]:
        """What is to be painted, with the maps read by one thread, which knows the last ones."""
        grid = BlockGrid(self.grid)
        for row, column in blocks:
            maps = [(tile, self.read_map(tile)) for tile in grid.tiles(row, column)]
            known = [(tile, pixels) for tile, pixels in maps if pixels is not None]
            yield _Work(row, column, grid.window(row, column), known)

    def _block(self, work: _Work) -> list[tuple[Place, bytes]]:
        """Paint a block of each layer, in strips."""
        window = work.window
        layers = {layer.name: BlockCompressor(layer) for layer in stored_layers(self.output)}
        for rows in row_strips(window.height, self._row_bytes):
            strip = Window(
                window.col_off, window.row_off + rows.start, window.width, rows.stop - rows.start
            )
            painted = paint(strip, work.maps, self.grid, self.output)
            pixels = pixels_of(self._inside(painted, strip), self.output)
            for name, compressor in layers.items():
                compressor.add(pixels[name])
        return [
            (Place(name, 0, work.row, work.column), compressor.finish())
            for name, compressor in layers.items()
        ]

    def _inside(self, painted: Painted, window: Window) -> Painted:
        """Without the pixels outside the region of interest."""
        if self.roi is None:
            return painted
        return Painted(painted.bands, painted.seen & self.roi.pixels(window))


def _by_stripes(rows: Span, columns: Span) -> Iterator[tuple[int, int]]:
    """Row and column of blocks, stripe by stripe and row by row: neighbours soon after each other.

    A tile has a share in several rows, and in a whole row of a wide region its map would be
    forgotten before the next one.
    """
    for first in range(*columns, _STRIPE):
        for row in range(*rows):
            for column in range(first, min(first + _STRIPE, columns[1])):
                yield row, column
