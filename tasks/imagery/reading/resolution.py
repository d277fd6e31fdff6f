"""Reads tiles at another resolution than the image's own, from overviews where they serve."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

from rasterio.errors import RasterioError
from rasterio.windows import Window

from tasks.errors import ImageError
from tasks.grid.tiles import Tile
from tasks.imagery.environment import gdal_environment
from tasks.imagery.georeference.resampled import resampled
from tasks.imagery.image import Image
from tasks.imagery.opening.dataset import open_dataset
from tasks.imagery.reading.strips import read_tiles
from tasks.imagery.reading.tile_pixels import AbsentTile, ReadTile, TilePixels, UnreadTile

_ROUNDING = 1e-6  # pixels of the source
_TOLERANCE = 1.02  # by which an overview's pixels may be larger than wanted: scale of projections

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels."""


@dataclass(frozen=True)
class Resolution:
    """The pixels in which tiles are sent, and those from which they are made.

    Attributes:
        image: The image.
        source: It, or the overview of it that tiles are read from.
        window: Width and height of every tile in pixels of the image.
        size: Width and height of every tile as it is sent.
        metres: Metres along the side of a pixel of the image.
    """

    image: Image
    source: Image
    window: tuple[int, int]
    size: tuple[int, int]
    metres: float

    @property
    def factors(self) -> tuple[float, float]:
        """Pixels of the image for each pixel that is sent, in x and y."""
        return self.window[0] / self.size[0], self.window[1] / self.size[1]

    @property
    def text(self) -> str:
        """What tiles are read from, in words."""
        source = ""
        if self.source is not self.image:
            source = f", from an overview of {self.source.width} × {self.source.height} pixels"
        width, height = self.window
        return (
            f"{self.metres * self.factors[0]:.3g} m a pixel (the image has {self.metres:.3g} m): "
            f"{width} × {height} of its pixels are sent as {self.size[0]} × {self.size[1]}{source}"
        )

    @property
    def sent(self) -> Image:
        """The image in pixels of the size that is sent."""
        image, (x, y) = self.image, self.factors
        size = max(1, round(image.width / x)), max(1, round(image.height / y))
        header = image.nitf and replace(image.nitf, records=(), chip=None)
        return replace(
            image,
            width=size[0],
            height=size[1],
            georeference=image.georeference and resampled(image.georeference, (x, y), size),
            nitf=header,
        )

    def read(
        self, tiles: Sequence[Tile], read_role: str | None, on_read: Callable[[int], None]
    ) -> Generator[ReadTile]:
        """The pixels of the source that tiles are made of, in the order of the tiles.

        Args:
            tiles: The tiles.
            read_role: IAM role to read S3 with, or None for the process's own identity.
            on_read: As in `read_tiles`.
        """
        sources = [Tile(tile.index, self._enclosing(tile.window)) for tile in tiles]
        read = read_tiles(self.source, sources, read_role=read_role, on_read=on_read)
        try:
            for tile, found in zip(tiles, read, strict=False):
                match found:
                    case TilePixels():
                        yield found.of(tile)
                    case AbsentTile():
                        yield AbsentTile(tile)
                    case UnreadTile():
                        yield replace(found, tile=tile)
        finally:
            read.close()

    def box(self, window: Window) -> Box:
        """Where a tile lies in the pixels that were read for it."""
        left, top, width, height = self._exact(window)
        around = self._enclosing(window)
        return left - around.col_off, top - around.row_off, width, height

    def sent_tile(self, tile: Tile) -> Tile:
        """A tile in pixels of the size that is sent, counted over the whole image."""
        (x, y), (width, height) = self.factors, self.size
        return Tile(
            tile.index, Window(tile.window.col_off / x, tile.window.row_off / y, width, height)
        )

    def _exact(self, window: Window) -> Box:
        """A window of the image in pixels of the source."""
        x, y = self.source.width / self.image.width, self.source.height / self.image.height
        return window.col_off * x, window.row_off * y, window.width * x, window.height * y

    def _enclosing(self, window: Window) -> Window:
        """The whole pixels of the source that a window of the image touches."""
        left, top, width, height = self._exact(window)
        first = floor(left + _ROUNDING), floor(top + _ROUNDING)
        right = min(self.source.width, ceil(left + width - _ROUNDING))
        bottom = min(self.source.height, ceil(top + height - _ROUNDING))
        return Window(*first, right - first[0], bottom - first[1])


def source_of(image: Image, factor: float, read_role: str | None) -> Image:
    """The overview with the largest pixels that are not larger than wanted; the image if none is.

    Args:
        image: The image.
        factor: Pixels of the image along the side of a pixel that is wanted.
        read_role: IAM role to read S3 with, or None for the process's own identity.

    Raises:
        ImageError: The overview cannot be read.
        ImageChangedError: The image was replaced since it was opened.
    """
    most = factor * _TOLERANCE
    fitting = {each: level for level, each in enumerate(image.overviews) if each <= most}
    if not fitting:
        return image
    found = replace(image, overview=fitting[max(fitting)], overviews=())
    with gdal_environment(read_role, s3=image.in_s3):
        try:
            with open_dataset(found, read_role) as dataset:
                return replace(
                    found,
                    width=dataset.width,
                    height=dataset.height,
                    block_shape=dataset.block_shapes[0],
                )
        except RasterioError as error:
            raise ImageError(f"{image.url}: its overview cannot be read ({error}).") from error
