"""Metrics of images and their regions: how many, how long, how large, and how they ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import shapely

from tasks.errors import DamagedStoreError
from tasks.grid.tiles import Region
from tasks.imagery.georeference.area import ground_areas
from tasks.planning.plan import Plan
from tasks.reporting.status import JobStatus, record_end
from tasks.reporting.summary import Summary
from tasks.request import Request
from tasks.telemetry.catalogue import (
    AREA_COVERED,
    BACKLOG_TILES,
    COST,
    FEATURES,
    Operation,
)
from tasks.telemetry.export import start_telemetry
from tasks.telemetry.fields import working_on
from tasks.telemetry.operations import record_operation
from tasks.telemetry.source import SOURCE
from tasks.telemetry.spans import span

_UNKNOWN = "unknown"  # the format of an image that is not planned
_SEGMENTS = 16  # of each edge of an image: on the ground, it may be bent


def dimensions(plan: Plan) -> dict[str, str]:
    """The dimensions of the metrics of an image and its regions."""
    return {"ModelName": plan.model_name, "InputFormat": plan.input_format}


@contextmanager
def failure_counted(work: Plan | Request) -> Iterator[None]:
    """Count an image as failed if the block raises an error, unless it is tried again.

    Args:
        work: The plan of the image; the message while there is none, as its format is not known.
    """
    began = time.perf_counter()
    try:
        yield
    except DamagedStoreError:
        raise
    except Exception:
        seconds = time.perf_counter() - began
        if isinstance(work, Plan):
            known = dimensions(work)
        else:
            known = {"ModelName": work.image_processor.metric_name, "InputFormat": _UNKNOWN}
        record_operation(Operation.IMAGE, seconds, failed=True, **known)
        raise


def record_image(plan: Plan, summary: Summary) -> None:
    """Count an image that is published, or all of whose tiles failed."""
    failed = summary.status is not JobStatus.SUCCESS
    seconds = summary.seconds or 0.0
    record_operation(Operation.IMAGE, seconds, failed=failed, **dimensions(plan))
    if summary.cost:
        SOURCE.add(COST, summary.cost.total, ModelName=plan.model_name)
    SOURCE.add(FEATURES, summary.features, ModelName=plan.model_name)
    if SOURCE.on:
        covered = _square_kilometres(plan) * summary.covered
        SOURCE.add(AREA_COVERED, covered, ModelName=plan.model_name)


@contextmanager
def measured_image(request: Request, image_url: str) -> Iterator[Callable[[Summary], Summary]]:
    """Measure the work on an image that no flow measures, from its start to its end.

    Args:
        request: The message.
        image_url: One of its images.

    Yields:
        Is given the outcome, and returns it; an image without one has failed.
    """
    start_telemetry()
    status = JobStatus.FAILED

    def ended(summary: Summary) -> Summary:
        nonlocal status
        status = summary.status
        return summary

    with working_on(job=request.job_id, image=image_url), span("image"):
        try:
            yield ended
        finally:
            record_end(request.image_processor.metric_name, status)


def _square_kilometres(plan: Plan) -> float:
    """The ground in the region of interest; 0 without a georeference."""
    image = shapely.box(0, 0, plan.image.width, plan.image.height)
    asked = image if plan.roi is None else shapely.intersection(plan.roi.area, image)
    side = max(plan.image.width, plan.image.height) / _SEGMENTS
    parts = np.asarray(shapely.get_parts(shapely.segmentize(asked, side)), object)
    polygons = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    return float(np.nansum(ground_areas(polygons, plan.image.georeference))) / 1e6


@contextmanager
def backlog(plan: Plan, regions: Sequence[Region]) -> Iterator[Callable[[int], None]]:
    """While it is open, tell how many tiles of an image are in regions that have not ended.

    Args:
        plan: The plan of the image.
        regions: Those that have not ended.

    Yields:
        Is called with the index of each region that has.
    """
    left = {region.index: len(region) for region in regions}

    def ended(index: int) -> None:
        left.pop(index, None)

    def tiles() -> int:
        return sum(list(left.values()))

    with SOURCE.gauge(BACKLOG_TILES, tiles, ModelName=plan.model_name):
        yield ended
