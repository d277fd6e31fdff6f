"""The estimate of a plan: tiles, calls, bytes, memory, from the image's header and overviews."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict
from rasterio.errors import RasterioError
from rasterio.windows import Window

from tasks.cost.money import Cost, cost_of
from tasks.cost.usage import Usage
from tasks.errors import ImageError
from tasks.grid.tiles import Region
from tasks.imagery import gdal_environment
from tasks.imagery.opening.dataset import open_dataset
from tasks.imagery.reading.blocks import absent_blocks_are_blank, block_sizes, block_slices
from tasks.imagery.reading.data_mask import DataMask, read_data_mask
from tasks.planning.image_warnings import image_warnings
from tasks.planning.plan import Plan, divide_into_regions
from tasks.planning.raster import RasterEstimate, estimate_raster
from tasks.planning.region_deployment import region_deployment
from tasks.planning.throughput import TILE_SECONDS, Throughput, untimed_tile_seconds
from tasks.request import Request
from tasks.settings import settings

_PROCESS_SECONDS = 2.0  # of processor time, to begin and end
_CALL_SECONDS = 1e-3  # the same for a call: to send a tile, read its answer and store it
_BYTE_SECONDS = 1.5e-9  # the same for a byte of pixels, to encode it
_READ_SECONDS = 6e-9  # the same for a stored byte, to decode it
_TILE_BYTES = 700  # stored of a tile with one feature, as GeoJSON and Parquet, with its answer
_PROCESS_BYTES = 350 * 1024 * 1024  # memory of a run's process before it reads pixels


class Estimate(BaseModel):
    """The estimate of a plan.

    Attributes:
        image: URL of the image.
        format: GDAL's name of its format.
        width: Width in pixels.
        height: Height in pixels.
        bands: Number of bands, alpha included.
        dtype: numpy's name of the pixel type.
        block_shape: Rows and columns of its blocks.
        stored_bytes: Bytes of its file.
        georeference: Kind of its georeference; None if it has none.
        tile_size: Width and height of a tile in pixels.
        tile_overlap: Least number of pixels that neighbouring tiles share.
        tiles: Tiles by state: `inferred`, `blank`, `outside`.
        blank_is: How blank tiles are determined: `counted` (the file omits their blocks, and no
            other tile can be blank), `estimated` (from an overview), or `unknown` until the pixels
            are read, except for those that the file omits.
        no_data: What decides which pixels hold no data, as `Image.no_data`.
        warnings: What is doubtful about the image, with the remedy.
        regions: Number of region runs.
        tile_seconds: Assumed seconds per tile, by which regions are sized; a run uses the measured
            ones of its model. None if the size of regions is set.
        region_size: Width and height of the largest region in pixels.
        bytes_to_read: Bytes of the blocks that all regions read; a block that two regions read
            counts twice.
        model_calls: Number of calls without retries: one for each view of a tile.
        bytes_to_send: Bytes of the pixels of all tiles that are sent, in all their views.
        memory_bytes: Upper bound of the memory of a region's run.
        raster: What the raster takes, if the model answers with pixels.
        usage: What the image is estimated to use, all retries and the model's own processor time
            left out.
        cost: What that costs; None without prices.
        prepared: What is done to tiles before they are sent, in words; empty if they are sent as
            they are stored.
    """

    model_config = ConfigDict(frozen=True)

    image: str
    format: str
    width: int
    height: int
    bands: int
    dtype: str
    block_shape: tuple[int, int]
    stored_bytes: int
    georeference: str | None
    tile_size: tuple[int, int]
    tile_overlap: int
    tiles: dict[str, int]
    blank_is: str
    no_data: str | None = None
    warnings: list[str] = []
    regions: int
    tile_seconds: float | None
    region_size: tuple[int, int]
    bytes_to_read: int
    model_calls: int
    bytes_to_send: int
    memory_bytes: int
    raster: RasterEstimate | None = None
    usage: Usage = Usage()
    cost: Cost | None = None
    prepared: str = ""


def estimate(plan: Plan, region_rows: int | None = None) -> Estimate:
    """Estimate a plan.

    Args:
        plan: The plan of the image.
        region_rows: Approximate height of a region in pixels; None for the operator's setting, or
            else for a height that suits a model that has not been timed.

    Raises:
        ImageError: The index of the image's blocks cannot be read.
    """
    image, grid = plan.image, plan.grid
    regions = divide_into_regions(plan, region_rows, partial(_assumed_throughput, plan.request))
    sized = (region_rows or settings().region_size) is not None
    tiles, to_read, blank_is = _count_tiles(plan, regions)
    width = max(region.width for region in regions)
    calls = tiles["inferred"] * plan.views
    bytes_to_read = round(to_read * plan.read_share)
    raster = estimate_raster(plan, tiles["inferred"])
    usage = Usage(
        calls=calls,
        cpu_seconds=_PROCESS_SECONDS
        + calls * (_CALL_SECONDS + plan.sent_bytes * _BYTE_SECONDS)
        + bytes_to_read * _READ_SECONDS,
        bytes_read=bytes_to_read,
        bytes_stored=raster.file_bytes + raster.scratch_bytes
        if raster
        else tiles["inferred"] * _TILE_BYTES,
        seconds=tiles["inferred"] * TILE_SECONDS / _assumed_throughput(plan.request).workers,
    )
    return Estimate(
        image=image.url,
        format=image.driver,
        width=image.width,
        height=image.height,
        bands=image.bands,
        dtype=image.dtype,
        block_shape=image.block_shape,
        stored_bytes=image.stored_bytes,
        georeference=image.georeference and image.georeference.text,
        tile_size=(grid.tile_width, grid.tile_height),
        tile_overlap=grid.overlap,
        tiles={state: tiles[state] for state in ("inferred", "blank", "outside")},
        blank_is=blank_is,
        no_data=image.no_data,
        warnings=image_warnings(plan),
        regions=len(regions),
        tile_seconds=None if sized else _assumed_throughput(plan.request).tile_seconds,
        region_size=(width, max(region.height for region in regions)),
        bytes_to_read=bytes_to_read,
        model_calls=calls,
        bytes_to_send=calls * plan.sent_bytes,
        memory_bytes=_PROCESS_BYTES
        + plan.reading_bytes(width)
        + (plan.tile_bytes * plan.views + plan.answer_bytes) * plan.most_calls()
        + plan.painting_bytes,
        raster=raster,
        usage=usage,
        cost=cost_of(usage, plan.request.image_processor.names),
        prepared=plan.prepared_text,
    )


def _assumed_throughput(request: Request) -> Throughput:
    """The throughput that follows from the settings alone."""
    elsewhere = region_deployment(request) is not None
    return Throughput(
        untimed_tile_seconds(request.image_processor.type),
        settings().region_workers if elsewhere else 1,
    )


def _count_tiles(plan: Plan, regions: Sequence[Region]) -> tuple[Counter[str], int, str]:
    """Tiles by state, bytes to read, and how blank tiles are determined."""
    image, role = plan.image, plan.request.image_read_role
    data_mask = read_data_mask(image, plan.grid.tile_size, role)
    tiles: Counter[str] = Counter()
    to_read = 0
    with gdal_environment(role, s3=image.in_s3):
        try:
            with open_dataset(image, role) as dataset:
                for region in regions:
                    states, size = _count_region(plan, region, dataset, data_mask)
                    tiles += states
                    to_read += size
        except RasterioError as error:
            raise ImageError(f"{image.url}: its index cannot be read ({error}).") from error
    if data_mask:
        return tiles, to_read, "estimated"
    return tiles, to_read, "unknown" if image.masked else "counted"


def _count_region(
    plan: Plan,
    region: Region,
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    data_mask: DataMask | None,
) -> tuple[Counter[str], int]:
    """Tiles of a region by state, and bytes of the blocks that it reads."""
    image, inside = plan.image, plan.tiles_in_roi(region)
    # A block that the file omits reads as the declared nodata, or else as 0; its alpha as 0.
    absent_is_blank = absent_blocks_are_blank(image) or not (
        image.has_mask or plan.request.image_nodata is not None
    )
    states = Counter(outside=len(region) - len(inside))
    if not inside:
        return states, 0
    window = Window(region.x, region.y, region.width, region.height)
    sizes = block_sizes(image, dataset, window)
    needed = np.zeros(sizes.shape, np.bool_)
    for tile in inside:
        blocks = block_slices(image, tile.window, window)
        absent = absent_is_blank and not sizes[blocks].any()
        needed[blocks] |= not absent
        blank = absent or (data_mask is not None and data_mask.blank(tile.window))
        states["blank" if blank else "inferred"] += 1
    return states, int(sizes[needed].sum())
