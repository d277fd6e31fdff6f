"""The raster of an image whose model answers with pixels."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from uuid import uuid4

import numpy as np
import pyarrow as pa
import shapely

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
from tasks.results.stored import StoredRegion
from tasks.storage import objects


def painter(plan: Plan, kept: Kept, regions: Sequence[Region]) -> Painter:
    """Paints the blocks of regions, from the answers that are kept.

    Raises:
        PublishError: The store does not answer.
    """
    output = plan.request.raster_output
    assert output is not None
    maps = KeptMaps(kept.answers, output, regions)
    return Painter(plan.grid, output, plan.roi, maps.read)


@contextmanager
def raster_of(
    plan: Plan, regions: Sequence[Region], stored: Mapping[int, StoredRegion], kept: Kept
) -> Iterator[Raster | None]:
    """The raster of an image, until it is published; None if its model answers with features.

    Args:
        plan: The plan of the image.
        regions: All its regions.
        stored: What each of them came to, by its index.
        kept: Where answers are kept, and what the regions came to.

    Raises:
        PublishError: Blocks or maps cannot be read, or blocks not be stored.
    """
    if plan.request.raster_output is None:
        yield None
        return
    store = kept.regions(plan.request)
    blocks = [store.blocks(each) for each in stored.values() if each.painted]
    name = f"raster.{uuid4().hex}"
    try:
        yield put_together(painter(plan, kept, regions), blocks, objects.join(store.folder, name))
    finally:
        for each in objects.list_names(store.folder):
            if each.startswith(name):
                objects.remove_object(objects.join(store.folder, each))


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
    missing = sum(ledger[coverage.MISSING.name].to_pylist())
    if raster is None:
        return RasterSummary(missing=missing)
    (layer, *_), (width, height) = raster.layers, raster.size
    found = raster.statistics[layer.name]
    names = {one.value: one.name for one in output.classes}
    if output.several:
        names[0] = "no class"
    return RasterSummary(
        width=width,
        height=height,
        classes={
            names.get(number, str(number)): pixels for number, pixels in found.pixels.most_common()
        },
        values=() if layer.categorical or not found.count else _ranges(layer, found),
        unit=layer.unit,
        missing=missing,
    )


def polygon_table(plan: Plan, raster: Raster) -> pa.Table | None:
    """The polygons of a raster's classes as detections, `detections.SCHEMA`; None if not wanted.

    Each belongs to the tile whose cell has its highest left corner.

    Raises:
        PublishError: A block cannot be read.
    """
    if raster.output.polygons is None:
        return None
    polygons = polygons_of(raster)
    geometries = np.array([polygon.geometry for polygon in polygons], dtype=object)
    bounds = shapely.bounds(geometries).reshape(-1, 4)
    areas = ground_areas(geometries, plan.image.georeference)
    table = pa.table(
        [
            pa.array(tiles_at(plan.grid, bounds[:, :2])),
            pa.array(np.arange(len(polygons), dtype=np.int32)),
            *(pa.array(column) for column in bounds.T),
            pa.array([polygon.score for polygon in polygons], pa.float64()),
            pa.array([polygon.name for polygon in polygons], pa.string()),
            pa.array(shapely.to_wkb(geometries), pa.binary()),
            pa.array(
                [_properties(polygon, area) for polygon, area in zip(polygons, areas, strict=True)],
                pa.string(),
            ),
        ],
        schema=detections.SCHEMA,
    )
    return detections.concatenate([table])


def _ranges(layer: Layer, found: Statistics) -> tuple[ValueRange, ...]:
    bands = zip(layer.bands, found.low, found.mean, found.high, strict=True)
    return tuple(
        ValueRange(band=band, low=low, mean=mean, high=high) for band, low, mean, high in bands
    )


def _properties(polygon: Polygon, area: float) -> str:
    own: dict[str, float] = {"areaPixels": polygon.pixels}
    if np.isfinite(area):
        own["areaSquareMetres"] = round(area, 3)
    return json.dumps(own)
