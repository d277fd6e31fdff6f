"""Paints blocks of a raster from the maps of tiles, and stores them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rasterio.windows import Window

from tasks.grid.roi import RegionOfInterest
from tasks.grid.tiles import Grid, Region, Tile
from tasks.raster.block_store import BlockWriter, Place, indexed_blocks
from tasks.raster.blocks import BLOCK, BlockGrid
from tasks.raster.compression import compress
from tasks.raster.layers import pixels_of, stored_layers
from tasks.raster.painting import Painted, paint
from tasks.raster.threads import in_order, threads_for
from tasks.raster.tile_maps import TileMap, band_count
from tasks.request.raster_output import RasterOutput

ReadMap = Callable[[Tile], TileMap | None]
"""Reads the map of a tile, or None if the model has not answered for it."""


_COPIES = 4  # of a block's bands that painting has in memory


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
        rows, columns = BlockGrid(self.grid).inside(region)
        with indexed_blocks(prefix) as writer:
            self.paint_blocks(
                ((row, column) for row in range(*rows) for column in range(*columns)), writer
            )

    def paint_blocks(self, blocks: Iterable[Sequence[int]], writer: BlockWriter) -> None:
        """Paint and store blocks, given by row and column, in threads.

        Raises:
            PublishError: A map cannot be read, or a block not be stored.
        """
        threads = threads_for(_COPIES * BLOCK * BLOCK * 8 * band_count(self.output))
        painted = in_order(
            self._block, self._work(blocks), threads=threads, weight=lambda _: 1, most=threads + 1
        )
        for bodies in painted:
            for place, body in bodies:
                writer.add(place, body)

    def _work(self, blocks: Iterable[Sequence[int]]) -> Iterator[_Work]:
        """What is to be painted, with the maps read by one thread, which knows the last ones."""
        grid = BlockGrid(self.grid)
        for row, column in blocks:
            maps = [(tile, self.read_map(tile)) for tile in grid.tiles(row, column)]
            known = [(tile, pixels) for tile, pixels in maps if pixels is not None]
            yield _Work(row, column, grid.window(row, column), known)

    def _block(self, work: _Work) -> list[tuple[Place, bytes]]:
        """Paint a block of each layer."""
        painted = paint(work.window, work.maps, self.grid, self.output)
        pixels = pixels_of(self._inside(painted, work.window), self.output)
        return [
            (Place(layer.name, 0, work.row, work.column), compress(pixels[layer.name], layer))
            for layer in stored_layers(self.output)
        ]

    def _inside(self, painted: Painted, window: Window) -> Painted:
        """Without the pixels outside the region of interest."""
        if self.roi is None:
            return painted
        return Painted(painted.bands, painted.seen & self.roi.pixels(window))
