"""Paints blocks of a raster from the maps of tiles, and stores them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rasterio.windows import Window

from tasks.grid.roi import RegionOfInterest
from tasks.grid.tiles import Grid, Region, Tile
from tasks.raster.block_store import BlockWriter, Place
from tasks.raster.blocks import BlockGrid
from tasks.raster.compression import compress
from tasks.raster.layers import pixels_of, stored_layers
from tasks.raster.painting import Painted, paint
from tasks.raster.tile_maps import TileMap
from tasks.request.raster_output import RasterOutput

ReadMap = Callable[[Tile], TileMap | None]
"""Reads the map of a tile, or None if the model has not answered for it."""


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
        with BlockWriter(prefix) as writer:
            self.paint_blocks(
                ((row, column) for row in range(*rows) for column in range(*columns)), writer
            )

    def paint_blocks(self, blocks: Iterable[tuple[int, int]], writer: BlockWriter) -> None:
        """Paint and store blocks, given by row and column.

        Raises:
            PublishError: A map cannot be read, or a block not be stored.
        """
        block_grid, layers = BlockGrid(self.grid), stored_layers(self.output)
        for row, column in blocks:
            window = block_grid.window(row, column)
            maps = [(tile, self.read_map(tile)) for tile in block_grid.tiles(row, column)]
            known = [(tile, pixels) for tile, pixels in maps if pixels is not None]
            painted = self._inside(paint(window, known, self.grid, self.output), window)
            pixels = pixels_of(painted, self.output)
            for layer in layers:
                writer.add(Place(layer.name, 0, row, column), compress(pixels[layer.name], layer))

    def _inside(self, painted: Painted, window: Window) -> Painted:
        """Without the pixels outside the region of interest."""
        if self.roi is None:
            return painted
        return Painted(painted.bands, painted.seen & self.roi.pixels(window))
