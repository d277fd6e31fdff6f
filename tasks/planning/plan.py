"""What an image's run will do, known before any tile costs money."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from tasks.errors import ImageChangedError, RequestError
from tasks.grid.cells import areas
from tasks.grid.roi import RegionOfInterest
from tasks.grid.tiles import Grid, Region, Tile
from tasks.imagery import Image, ReadTile, max_region_width, open_image, read_tiles, with_nodata
from tasks.inference import open_with_retries
from tasks.planning.roi import region_of_interest
from tasks.planning.sizing import OverlapCost, sized_regions
from tasks.planning.throughput import Throughput
from tasks.request import Request
from tasks.results.coverage import TileState
from tasks.results.detections import boxes
from tasks.results.stored import TileResults, without_detections
from tasks.settings import settings

_MOST_TILE_BYTES = 64 << 20  # of a tile's pixels: a few are in memory at a time, and encoded too


@dataclass(frozen=True)
class Plan:
    """One image of a request, opened and cut.

    Attributes:
        request: What is asked for.
        image: The image, its metadata and georeference.
        grid: All its tiles.
        roi: The part that is asked for; None for all of it.
    """

    request: Request
    image: Image
    grid: Grid
    roi: RegionOfInterest | None

    @property
    def tile_bytes(self) -> int:
        """Bytes of a tile's pixels."""
        return self.grid.tile_width * self.grid.tile_height * self.image.pixel_bytes

    def regions(self, rows: int) -> list[Region]:
        """The image in regions, each as wide as memory permits, so that little is read twice.

        Args:
            rows: Pixels of a region's height, about; all of them where the format can only be
                decoded from its first row on.
        """
        if self.image.sequential:
            rows = self.image.height
        return self.grid.regions(rows, self._widest)

    def sized_regions(self, throughput: Throughput) -> list[Region]:
        """The image in regions that each justify a run, given the expected throughput."""
        image, grid = self.image, self.grid
        if image.sequential:
            return self.regions(image.height)
        asked = areas(grid, self.roi).reshape(len(grid.rows), len(grid.columns)) > 0
        rows, columns = image.block_shape
        return sized_regions(
            grid,
            asked,
            throughput,
            settings().region_seconds,
            fewest=grid.fewest_columns(self._widest),
            seams=OverlapCost(grid.overlap + rows, grid.overlap + columns),
        )

    @property
    def _widest(self) -> int:
        return max_region_width(self.image, self.grid.tile_height)

    def tiles_in_roi(self, region: Region) -> list[Tile]:
        """The tiles of a region that are asked for."""
        return [tile for tile in self.grid.tiles(region) if self._wants(tile)]

    def outside(self, region: Region) -> TileResults:
        """The tiles of a region that nobody asked for."""
        unwanted = [tile for tile in self.grid.tiles(region) if not self._wants(tile)]
        return without_detections(unwanted, TileState.OUTSIDE)

    def clip_to_roi(self, detections: pa.Table) -> pa.Table:
        """Settled detections whose centre lies in what is asked for.

        Only then: of an object longer than an overlap, no tile need see its centre.
        """
        if self.roi is None:
            return detections
        corners = boxes(detections)
        inside = self.roi.contains((corners[:, :2] + corners[:, 2:]) / 2)
        return detections.filter(pa.array(inside))

    def read(self, tiles: Sequence[Tile]) -> Generator[ReadTile]:
        """Tiles with their pixels, in order, read ahead."""
        return read_tiles(self.image, tiles, read_role=self.request.image_read_role)

    def text(self, regions: int) -> str:
        """The plan in one line."""
        image, grid = self.image, self.grid
        return (
            f"{image.width} × {image.height} pixels, {image.bands} × {image.dtype}: {len(grid)} "
            f"tiles of {grid.tile_width} × {grid.tile_height} in {regions} regions"
        )

    def _wants(self, tile: Tile) -> bool:
        return self.roi is None or self.roi.wants(tile.window)


def make_plan(request: Request, image_url: str, etag: str | None = None) -> Plan:
    """Open an image of a request and cut it.

    Args:
        request: The message.
        image_url: Which of its images.
        etag: The version of it that the work began with; None where it begins here.

    Raises:
        ImageError: The image cannot be read, or not safely.
        ImageChangedError: It is another version.
        RequestError: What is asked for does not fit the image.
    """
    image = open_image(
        image_url,
        read_role=request.image_read_role,
        roots=settings().local_roots,
        dem=settings().dem_uri,
    )
    if etag is not None and image.etag != etag:
        raise ImageChangedError(
            f"{image_url} was replaced since the work began (version {etag}, now {image.etag}): "
            "send the request again."
        )
    image = with_nodata(image, request.image_nodata)
    grid = Grid(image.width, image.height, request.tile_size, request.tile_overlap)
    if len(grid) > settings().max_tiles:
        raise RequestError(
            f"imageProcessorTileSize: {request.tile_size} with an overlap of "
            f"{request.tile_overlap} cuts {image_url} into {len(grid)} tiles, more than "
            f"SWATH_MAX_TILES, {settings().max_tiles}; give larger tiles or less overlap."
        )
    roi = region_of_interest(request.region_of_interest, image)
    plan = Plan(request, image, grid, roi)
    if plan.tile_bytes > _MOST_TILE_BYTES:
        raise RequestError(
            f"imageProcessorTileSize: a tile of {grid.tile_width} × {grid.tile_height} pixels, "
            f"{image.bands} × {image.dtype} each, takes {plan.tile_bytes / 1e6:.0f} MB, more than "
            f"the {_MOST_TILE_BYTES / 1e6:.0f} MB that fit in a run's memory; give smaller tiles."
        )
    return plan


def check_plan(request: Request, image_url: str) -> Plan:
    """A plan of which every part can be carried out, found out before any tile costs money.

    Its request names one variant of the endpoint, so that all regions ask the same model.

    Raises:
        ImageError: As `make_plan`.
        EndpointError: The endpoint does not tell what must be known of it.
        RequestError: As `make_plan`; or the model, the encoding or an output that
            the request names is not to be had.
    """
    # late: a region's run, which checks nothing, need not wait until they are loaded
    from tasks.inference.sagemaker import resolve_variant  # noqa: PLC0415
    from tasks.publish import check_outputs  # noqa: PLC0415

    if image_url not in request.image_urls:
        raise RequestError(f"image_url: {image_url} is none of the request's imageUrls; name one.")
    plan = make_plan(resolve_variant(request, image_url), image_url)
    check_outputs(request.outputs, settings().local_roots)
    open_with_retries(plan.request, plan.image).close()
    return plan
