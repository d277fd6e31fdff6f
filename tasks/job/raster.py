"""The raster of an image whose model answers with pixels."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from itertools import islice
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import shapely
from rasterio.windows import Window

from tasks.errors import DamagedStoreError, PublishError
from tasks.grid.cells import tiles_at
from tasks.grid.tiles import Region
from tasks.imagery import ground_areas
from tasks.job.kept import Kept
from tasks.planning.plan import Plan
from tasks.raster import (
    Layer,
    Painter,
    Polygon,
    Raster,
    missing_pixels,
    polygons_of,
    put_together,
)
from tasks.raster.kept_maps import KeptMaps
from tasks.raster.statistics import Statistics
from tasks.reporting.raster_summary import RasterSummary, ValueRange
from tasks.results import coverage, detections
from tasks.results.answers import maps_by_tile
from tasks.results.stored import StoredRegion
from tasks.storage import objects

logger = logging.getLogger(__name__)

_BATCH = 4096  # polygons


def paint_region(
    plan: Plan, region: Region, kept: Kept, tiles: Collection[int], prefix: str
) -> dict[int, str]:
    """Paint and store the blocks of a region, from the answers that are kept.

    Args:
        plan: The plan of the image.
        region: The region; all its tiles have been answered that will be.
        kept: Where answers are kept.
        tiles: Indices of those that count as answered; maps of others may be kept too.
        prefix: First part of the URIs to store the blocks under.

    Returns:
        The name of the part that has the map of each tile, by its index.

    Raises:
        DamagedStoreError: Maps are damaged or gone; their tiles count as not answered now.
        PublishError: A map cannot be read, or a block not be stored.
    """
    found = maps_by_tile(kept.answers, region)
    parts = {tile: found[tile] for tile in tiles if tile in found}
    if len(parts) < len(tiles):
        raise DamagedStoreError(
            f"Maps of {region.name} are gone from {kept.answers}. Send the request again, or "
            f"`swath redrive {plan.request.job_id}`: their tiles are asked for again."
        )
    _painter(plan, _maps(plan, kept, parts)).paint_region(region, prefix)
    return parts


@contextmanager
def raster_of(
    plan: Plan, stored: Mapping[int, StoredRegion], kept: Kept
) -> Iterator[Raster | None]:
    """The raster of an image, until it is published; None if its model answers with features.

    Args:
        plan: The plan of the image.
        stored: What each of its regions came to, by its index.
        kept: Where answers are kept, and what the regions came to.

    Raises:
        DamagedStoreError: Maps are damaged; the regions that they are of count as not worked now.
        PublishError: Blocks or maps cannot be read, or blocks not be stored.
    """
    if plan.request.raster_output is None:
        yield None
        return
    store = kept.regions(plan.request)
    painted = [each for each in stored.values() if each.painted]
    parts: dict[int, str] = {}
    parts_of: list[set[str]] = []
    for each in painted:
        own = store.maps(each)
        parts |= own
        parts_of.append(set(own.values()))
    maps = _maps(plan, kept, parts)
    # of this job, as others may put together the same raster at the same time
    scratch = f"raster.{sha256(plan.request.job_id.encode()).hexdigest()[:16]}."
    _remove_all(store.folder, scratch)  # of a run that was killed
    try:
        yield put_together(
            _painter(plan, maps),
            [store.blocks(each) for each in painted],
            objects.join(store.folder, f"{scratch}{uuid4().hex}"),
        )
    finally:
        for each, names in zip(painted, parts_of, strict=True):
            if maps.damaged & names:
                store.withdraw(each)
        try:
            _remove_all(store.folder, scratch)
        except PublishError as error:  # the raster is published, or something else is wrong
            logger.warning("%s/%s* is left for the next run: %s", store.folder, scratch, error)


def _maps(plan: Plan, kept: Kept, parts: Mapping[int, str]) -> KeptMaps:
    assert plan.request.raster_output is not None
    return KeptMaps(kept.answers, plan.request.raster_output, parts)


def _painter(plan: Plan, maps: KeptMaps) -> Painter:
    assert plan.request.raster_output is not None
    return Painter(plan.grid, plan.request.raster_output, plan.roi, maps.read)


def _remove_all(folder: str, beginning: str) -> None:
    """Remove the objects in a folder whose names begin so."""
    for name in objects.list_names(folder):
        if name.startswith(beginning):
            objects.remove_object(objects.join(folder, name))


def with_missing_pixels(plan: Plan, ledger: pa.Table) -> pa.Table:
    """A ledger with the pixels that have no answer, if the model answers with pixels.

    Args:
        plan: The plan of the image.
        ledger: Table of `coverage.MEASURED` with all its tiles.
    """
    if plan.request.raster_output is None:
        return ledger
    missing = missing_pixels(ledger, plan.grid, plan.roi)
    return ledger.append_column(coverage.MISSING, pa.array(missing))


def summarised(plan: Plan, raster: Raster | None, ledger: pa.Table) -> RasterSummary | None:
    """The raster of an image in its summary; None if its model answers with features.

    Args:
        plan: The plan of the image.
        raster: The raster; None if every tile failed.
        ledger: The ledger with the pixels that have no answer.
    """
    output = plan.request.raster_output
    if output is None:
        return None
    if raster is None:
        return RasterSummary(**_nodata(plan, 0, ledger))
    (layer, *_), (width, height) = raster.layers, raster.size
    found = raster.statistics[layer.name]
    names = output.class_names
    return RasterSummary(
        width=width,
        height=height,
        classes={
            names.get(number, str(number)): pixels for number, pixels in found.pixels.most_common()
        },
        values=() if layer.categorical or not found.count else _ranges(layer, found),
        unit=layer.unit,
        **_nodata(plan, found.count, ledger),
    )


def polygon_table(plan: Plan, raster: Raster) -> pa.Table | None:
    """The polygons of a raster's classes as detections, `detections.SCHEMA`; None if not wanted.

    Each belongs to the tile whose cell has the upper left corner of its box.

    Raises:
        PublishError: A block cannot be read.
    """
    if raster.output.polygons is None:
        return None
    polygons, tables, places = polygons_of(raster), [], [np.empty((0, 3))]
    while batch := list(islice(polygons, _BATCH)):  # as objects, they take ten times the memory
        tables.append(_polygon_rows(plan, batch))
        places.append(np.array([polygon.place for polygon in batch]))
    table = pa.concat_tables([detections.SCHEMA.empty_table(), *tables])
    tiles, (y, x, number) = table["tile"].to_numpy(), np.concatenate(places).T
    order = np.lexsort([number, x, y, tiles])
    tiles = tiles[order]
    ordinals = (np.arange(len(tiles)) - np.searchsorted(tiles, tiles)).astype(np.int32)
    ordinal = detections.SCHEMA.get_field_index("ordinal")
    field = detections.SCHEMA.field(ordinal)
    return table.take(order).set_column(ordinal, field, pa.array(ordinals))


def _polygon_rows(plan: Plan, polygons: Sequence[Polygon]) -> pa.Table:
    """Polygons as detections, all of ordinal 0."""
    geometries = np.array([polygon.geometry for polygon in polygons], dtype=object)
    bounds = shapely.bounds(geometries)
    areas = shapely.area(geometries), ground_areas(geometries, plan.image.georeference)
    return pa.table(
        [
            pa.array(tiles_at(plan.grid, bounds[:, :2])),
            pa.array(np.zeros(len(polygons), np.int32)),
            *(pa.array(column) for column in bounds.T),
            pa.array([polygon.score for polygon in polygons], pa.float64()),
            pa.array([polygon.name for polygon in polygons], pa.string()),
            pa.array(shapely.to_wkb(geometries), pa.binary()),
            pa.array(map(_properties, *areas), pa.string()),
        ],
        schema=detections.SCHEMA,
    )


def _nodata(plan: Plan, answered: int, ledger: pa.Table) -> dict[str, Any]:
    """How many pixels have no answer, and why, as fields of a `RasterSummary`."""
    width, height = plan.grid.width, plan.grid.height
    nodata = width * height - answered
    missing = sum(ledger[coverage.MISSING.name].to_pylist())
    outside = 0
    if plan.roi is not None:
        outside = width * height - plan.roi.count(Window(0, 0, width, height))
    return {
        "nodata": nodata,
        "nodata_share": nodata / (width * height),
        "missing": missing,
        "outside": outside,
        "blank": nodata - missing - outside,
    }


def _ranges(layer: Layer, found: Statistics) -> tuple[ValueRange, ...]:
    bands = zip(layer.bands, found.low, found.mean, found.high, strict=True)
    return tuple(
        ValueRange(band=band, low=low, mean=mean, high=high) for band, low, mean, high in bands
    )


def _properties(pixels: float, square_metres: float) -> str:
    """A polygon's own properties as JSON: its area in the image and, if known, on the Earth."""
    own: dict[str, float] = {"areaPixels": round(pixels, 3)}
    if np.isfinite(square_metres):
        own["areaSquareMetres"] = round(square_metres, 3)
    return json.dumps(own)
