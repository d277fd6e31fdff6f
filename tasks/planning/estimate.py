"""What the work on an image will take: found out from its header, its index and its overviews."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict
from rasterio.errors import RasterioError
from rasterio.windows import Window

from tasks.errors import ImageError
from tasks.grid.tiles import Region
from tasks.imagery import gdal_environment
from tasks.imagery.opening.dataset import open_dataset
from tasks.imagery.reading.blocks import absent_blocks_are_blank, block_sizes, touched_blocks
from tasks.imagery.reading.preview import Preview, read_preview
from tasks.imagery.reading.windows import reading_bytes
from tasks.inference.batch import max_calls
from tasks.planning.plan import Plan
from tasks.planning.throughput import Throughput
from tasks.settings import settings

_PROCESS = 350 * 1024 * 1024  # bytes that a run takes before it reads


class Estimate(BaseModel):
    """What a plan will take.

    Attributes:
        image: URL of the image.
        format: GDAL's name of its format.
        width: Pixels in x.
        height: Pixels in y.
        bands: Bands, alpha included.
        dtype: numpy's name of the pixel type.
        block_shape: Rows and columns of the blocks it is stored in.
        stored_bytes: Bytes of its file.
        georeference: What places it on the Earth; None where nothing does.
        tile_size: Width and height of a tile in pixels.
        tile_overlap: Pixels that neighbouring tiles share at least.
        tiles: Tiles by state: `inferred`, `blank`, `outside`.
        blank_is: How the blank tiles are known: `counted` (the file leaves out their blocks, and
            no other can be blank), `estimated` (from an overview), or `unknown` before the pixels
            are read, but for those that the file leaves out.
        regions: Region runs.
        tile_seconds: What a tile is taken to take, as regions are sized by it; a run knows what
            earlier ones of its model took. None where their size is set.
        region_size: Width and height of the largest, in pixels.
        bytes_to_read: Bytes of the blocks that all regions read; what two of them share counts
            twice.
        model_calls: Calls, if none has to be made again.
        bytes_to_send: Bytes of all tiles' pixels.
        memory_bytes: Memory of a region's run, at most.
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
    regions: int
    tile_seconds: float | None
    region_size: tuple[int, int]
    bytes_to_read: int
    model_calls: int
    bytes_to_send: int
    memory_bytes: int


def estimate(plan: Plan, region_rows: int | None = None) -> Estimate:
    """What a plan will take.

    Args:
        plan: Of the image.
        region_rows: Rows of a region, about; None for what the operator set, or else what suits a
            model of which nothing is known.

    Raises:
        ImageError: The index of the image's blocks cannot be read.
    """
    image, grid = plan.image, plan.grid
    rows = region_rows or settings().region_size
    throughput = _pace()
    regions = plan.regions(rows) if rows else plan.regions_for(throughput)
    tiles, to_read, blank_is = _look(plan, regions)
    width = max(region.width for region in regions)
    calls = tiles["inferred"]
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
        regions=len(regions),
        tile_seconds=None if rows else throughput.tile_seconds,
        region_size=(width, max(region.height for region in regions)),
        bytes_to_read=to_read,
        model_calls=calls,
        bytes_to_send=calls * plan.tile_bytes,
        memory_bytes=_PROCESS
        + reading_bytes(image, grid.tile_height, width)
        + plan.tile_bytes * max_calls(plan.tile_bytes),
    )


def _pace() -> Throughput:
    """What is known of it without asking Prefect."""
    elsewhere = settings().region_deployment is not None
    return Throughput(workers=settings().region_workers if elsewhere else 1)


def _look(plan: Plan, regions: Sequence[Region]) -> tuple[Counter[str], int, str]:
    """Tiles by state, bytes to read, and how the blank tiles are known."""
    image, role = plan.image, plan.request.image_read_role
    far = read_preview(image, plan.request.tile_size, role)
    tiles: Counter[str] = Counter()
    to_read = 0
    with gdal_environment(role, s3=image.in_s3):
        try:
            with open_dataset(image, role) as dataset:
                for region in regions:
                    states, size = _region(plan, region, dataset, far)
                    tiles += states
                    to_read += size
        except RasterioError as error:
            raise ImageError(f"{image.url}: its index cannot be read ({error}).") from error
    if far:
        return tiles, to_read, "estimated"
    return tiles, to_read, "unknown" if image.masked else "counted"


def _region(
    plan: Plan,
    region: Region,
    dataset: Any,  # noqa: ANN401 - rasterio has no types
    far: Preview | None,
) -> tuple[Counter[str], int]:
    """Tiles of a region by state, and the bytes of the blocks that it reads."""
    image, wanted = plan.image, plan.tiles_in_roi(region)
    # an absent block reads as the nodata that the file declares, or 0; its alpha as 0
    left_out = absent_blocks_are_blank(image) or not (
        image.has_mask or plan.request.image_nodata is not None
    )
    states = Counter(outside=len(region) - len(wanted))
    if not wanted:
        return states, 0
    window = Window(region.x, region.y, region.width, region.height)
    sizes = block_sizes(image, dataset, window)
    needed = np.zeros(sizes.shape, np.bool_)
    for tile in wanted:
        blocks = touched_blocks(image, tile.window, window)
        absent = left_out and not sizes[blocks].any()
        needed[blocks] |= not absent
        blank = absent or (far is not None and far.blank(tile.window))
        states["blank" if blank else "inferred"] += 1
    return states, int(sizes[needed].sum())
