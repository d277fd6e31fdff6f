"""The plan of an image: its metadata, tiles, region of interest and regions."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from math import ceil
from typing import Any

import pyarrow as pa

from tasks.errors import RequestError
from tasks.grid.cells import Cells
from tasks.grid.roi import RegionOfInterest
from tasks.grid.tiles import Grid, Region, Tile
from tasks.imagery import (
    Image,
    ReadTile,
    Resolution,
    TilePreparation,
    max_region_width,
    read_tiles,
)
from tasks.imagery.reading.windows import reading_bytes
from tasks.inference.answer.raster import answer_bytes
from tasks.inference.batch import max_calls
from tasks.inference.preparation import preparation_of, prepared_as, prepared_text
from tasks.inference.raster_endpoint import VIEWS
from tasks.planning.image import requested_image
from tasks.planning.resolution import grid_of
from tasks.planning.roi import region_of_interest
from tasks.planning.scaling import resolve_scaling
from tasks.planning.sizing import OverlapCost, sized_regions
from tasks.planning.throughput import Throughput
from tasks.request import Request
from tasks.results.detections import boxes
from tasks.settings import settings

_MAX_TILE_BYTES = 64 << 20  # several tiles are in memory at a time, also in encoded form
_MAX_ANSWER_BYTES = 128 << 20  # of an answer in pixels: a few are in memory at a time
_PAINTING_BYTES = 256 << 20  # of maps and blocks, as one region is painted while the next is read


@dataclass(frozen=True)
class Plan:
    """The plan of one image of a request.

    Attributes:
        request: The message.
        image: The image, its metadata and georeference.
        grid: The tiles of the image.
        roi: The region of interest; None for the whole image.
        resolution: The pixels in which tiles are sent; None for those of the image.
    """

    request: Request
    image: Image
    grid: Grid
    roi: RegionOfInterest | None
    resolution: Resolution | None = None

    @property
    def identity(self) -> str:
        """The identity of the work, as of `Request.identity`."""
        return self.request.identity(self.image.url)

    @property
    def model_name(self) -> str:
        """The model's name in metrics."""
        return self.request.image_processor.metric_name

    @property
    def input_format(self) -> str:
        """The image's format in metrics: GDAL's name of it, as in OSML."""
        return self.image.driver.upper()

    @cached_property
    def cells(self) -> Cells:
        """The area that each tile answers for."""
        return Cells.of(self.grid, self.roi)

    @cached_property
    def preparation(self) -> TilePreparation:
        """How tiles are changed before the model gets them."""
        return preparation_of(self.request, self.image, self.resolution)

    @property
    def prepared(self) -> dict[str, Any] | None:
        """What the request says of the content of tiles; None if it says nothing."""
        return prepared_as(self.request, self.preparation)

    @cached_property
    def prepared_text(self) -> str:
        """The same in words; empty for nothing."""
        return prepared_text(self.request, self.preparation)

    @property
    def sent_bytes(self) -> int:
        """Bytes of a tile's pixels as the model gets them."""
        width, height = self.sent_size
        return width * height * self.preparation.image.pixel_bytes

    @property
    def sent_size(self) -> tuple[int, int]:
        """Width and height of a tile as the model gets it."""
        grid = self.grid
        return self.resolution.size if self.resolution else (grid.tile_width, grid.tile_height)

    @property
    def tile_bytes(self) -> int:
        """Bytes of a tile's pixels, as they are read or as the model gets them."""
        if self.resolution is None:
            return self.sent_bytes
        pixels = self.grid.tile_width * self.grid.tile_height * self.read_share
        return max(round(pixels) * self.image.pixel_bytes, self.sent_bytes)

    @property
    def views(self) -> int:
        """How often the model is asked for each tile."""
        output = self.request.raster_output
        return len(VIEWS[output.augmentation]) if output else 1

    @property
    def answer_bytes(self) -> int:
        """Bytes of the answer for a tile in pixels; 0 if the model answers with features."""
        output, grid = self.request.raster_output, self.grid
        sizes = (grid.tile_width, grid.tile_height), self.sent_size
        return max(answer_bytes(output, *size) for size in sizes) if output else 0

    @property
    def painting_bytes(self) -> int:
        """Bytes to paint the blocks of a raster with; 0 if the model answers with features."""
        return _PAINTING_BYTES if self.request.raster_output else 0

    def most_calls(self, tiles_per_call: int = 1) -> int:
        """Calls for so many tiles each that a region may have in memory at a time."""
        held = self.answer_bytes * (1 if self.views == 1 else 2)  # the sum of views, and one view
        return max_calls(self.tile_bytes * self.views * tiles_per_call, held * tiles_per_call)

    def regions(self, rows: int) -> list[Region]:
        """Divide the image into regions of a given height, each as wide as memory permits.

        Args:
            rows: Approximate height of a region in pixels. A format that can only be decoded from
                its first row on gives regions of the image's full height.
        """
        if self.image.sequential:
            rows = self.image.height
        return self.grid.regions(rows, self._widest)

    def regions_for(self, throughput: Throughput) -> list[Region]:
        """Divide the image into regions that each justify a run at a given throughput."""
        image, grid = self.image, self.grid
        if image.sequential:
            return self.regions(image.height)
        in_roi = self.cells.areas.reshape(len(grid.rows), len(grid.columns)) > 0
        rows, columns = image.block_shape
        return sized_regions(
            grid,
            in_roi,
            throughput,
            settings().region_seconds,
            min_columns=grid.min_region_columns(self._widest),
            overlap_cost=OverlapCost(grid.overlap + rows, grid.overlap + columns),
        )

    @property
    def _widest(self) -> int:
        """Greatest width of a region in pixels that fits in memory."""
        image, source = self.image, self._source
        tile = ceil(self.grid.tile_height * source.height / image.height)
        widest = max_region_width(source, tile, self.painting_bytes)
        return widest * image.width // source.width

    def reading_bytes(self, width: int) -> int:
        """Bytes that reading takes, in a region of a width in pixels."""
        image, source = self.image, self._source
        tile = ceil(self.grid.tile_height * source.height / image.height)
        return reading_bytes(source, tile, ceil(width * source.width / image.width))

    @property
    def read_share(self) -> float:
        """Share of the image's pixels that are read for it: below 1 from an overview."""
        image, source = self.image, self._source
        return source.width * source.height / (image.width * image.height)

    @property
    def _source(self) -> Image:
        """The image, or the overview that is read in its place."""
        return self.resolution.source if self.resolution else self.image

    def tiles_in_roi(self, region: Region) -> list[Tile]:
        """The tiles of a region that overlap the region of interest, in the order of the grid."""
        return self.split_by_roi(region)[0]

    def split_by_roi(self, region: Region) -> tuple[list[Tile], list[Tile]]:
        """The tiles of a region inside and outside the region of interest, each in grid order.

        A tile that is partly inside counts as inside.
        """
        tiles = list(self.grid.tiles(region))
        if self.roi is None:
            return tiles, []
        inside = self.roi.meets([tile.window for tile in tiles])
        return list(compress(tiles, inside)), list(compress(tiles, ~inside))

    def clip_to_roi(self, detections: pa.Table) -> pa.Table:
        """The detections whose box has its centre in the region of interest.

        Apply it to merged detections only: before the merge, a detection may show a part of an
        object, and the centre of a part lies elsewhere than that of the object. An answer about a
        whole tile stays: the tile overlaps the region of interest.
        """
        if self.roi is None or self.request.tile_output is not None:
            return detections
        corners = boxes(detections)
        inside = self.roi.contains((corners[:, :2] + corners[:, 2:]) / 2)
        return detections.filter(pa.array(inside))

    def read(
        self, tiles: Sequence[Tile], on_read: Callable[[int], None] = lambda _: None
    ) -> Generator[ReadTile]:
        """The given tiles with their pixels, in order; later tiles are read ahead.

        Args:
            tiles: The tiles.
            on_read: Is given the stored bytes of what is read, in the threads that read.
        """
        role = self.request.image_read_role
        if self.resolution is not None:
            return self.resolution.read(tiles, role, on_read)
        return read_tiles(self.image, tiles, read_role=role, on_read=on_read)

    def text(self, regions: int) -> str:
        """The plan in one line."""
        image, grid = self.image, self.grid
        tiles, where = _counted(len(grid), "tile"), _counted(regions, "region")
        sent = f"; sent: {self.prepared_text}" if self.prepared_text else ""
        return (
            f"{image.width} × {image.height} pixels, {image.bands} × {image.dtype}: {tiles} of "
            f"{grid.tile_width} × {grid.tile_height} in {where}{sent}"
        )


def make_plan(request: Request, image_url: str, etag: str | None = None) -> Plan:
    """Open an image of a request and cut it into tiles.

    The numbers of a scaling that are found in the image stand in the request of the plan.

    Args:
        request: The message.
        image_url: One of its images.
        etag: The image version that the job began with; None if the job begins here.

    Raises:
        ImageError: The image cannot be read, or not safely.
        ImageChangedError: The image is another version than `etag`.
        RequestError: The request does not fit the image.
    """
    image = requested_image(request, image_url, etag)
    grid, resolution = grid_of(request, image)
    if len(grid) > settings().max_tiles:
        raise RequestError(
            f"imageProcessorTileSize: {request.tile_size} with an overlap of "
            f"{request.tile_overlap} cuts {image_url} into {len(grid)} tiles, more than "
            f"SWATH_MAX_TILES, {settings().max_tiles}; give larger tiles or less overlap."
        )
    roi = region_of_interest(request.region_of_interest, image)
    plan = Plan(resolve_scaling(request, image), image, grid, roi, resolution)
    if plan.tile_bytes > _MAX_TILE_BYTES:
        sent, (width, height) = plan.preparation.image, plan.sent_size
        size = f"{width} × {height} pixels, {sent.bands} × {sent.dtype} each"
        if resolution is not None:
            size += f", made of {grid.tile_width} × {grid.tile_height} of the image"
        raise RequestError(
            f"imageProcessorTileSize: a tile of {size}, takes {plan.tile_bytes / 1e6:.0f} MB, more "
            f"than the {_MAX_TILE_BYTES / 1e6:.0f} MB that fit in a run's memory; give smaller "
            "tiles."
        )
    if plan.answer_bytes > _MAX_ANSWER_BYTES:
        raise RequestError(
            f"imageProcessorTileSize: the raster of a tile of {grid.tile_width} × "
            f"{grid.tile_height} pixels takes {plan.answer_bytes / 1e6:.0f} MB in memory, more "
            f"than the {_MAX_ANSWER_BYTES / 1e6:.0f} MB that fit in a run's; give smaller tiles, "
            "or answer with values classes in place of probabilities."
        )
    return plan


def divide_into_regions(
    plan: Plan, region_rows: int | None, throughput: Callable[[], Throughput]
) -> list[Region]:
    """Divide an image into regions, by a given height or by the expected throughput.

    Args:
        plan: The plan of the image.
        region_rows: Approximate height of a region in pixels; None for the operator's setting.
        throughput: Estimates the throughput; called only if neither sets the height.
    """
    rows = region_rows or settings().region_size
    return plan.regions(rows) if rows else plan.regions_for(throughput())


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
