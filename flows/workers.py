"""How fast an image can be worked: what Prefect knows of regions of its model, and of workers."""

from __future__ import annotations

import httpx
from prefect import get_client, get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from flows.image_runs import tags
from flows.run_records import read_metric
from tasks.grid.tiles import Grid
from tasks.planning.throughput import RegionTiming, Throughput, tile_seconds
from tasks.request import Request
from tasks.settings import settings

_LAST = 10  # regions of a model, which tell what its tiles take


def throughput_of(request: Request, grid: Grid, most: int) -> Throughput:
    """How fast an image of a request can be worked; where Prefect does not tell, as is usual.

    Args:
        request: Names the model.
        grid: The image's tiles.
        most: Regions that its run waits for at a time.
    """
    elsewhere, log = settings().region_deployment, get_run_logger()
    works: list[RegionTiming] = []
    workers = settings().region_workers if elsewhere else 1
    try:
        with get_client(sync_client=True) as client:
            works = _works(client, request)
            workers = _workers(client, elsewhere) if elsewhere else 1
    except (httpx.HTTPError, ObjectNotFound) as error:
        log.warning("Prefect does not tell how fast regions are worked: %r", error)
    pixels = grid.tile_width * grid.tile_height
    throughput = Throughput(tile_seconds(works, pixels), min(workers, most))
    log.info(
        "Regions are cut for %d at a time, and %.3g s a tile",
        throughput.workers,
        throughput.tile_seconds,
    )
    return throughput


def _works(client: SyncPrefectClient, request: Request) -> list[RegionTiming]:
    """What the last regions of a request's model took."""
    _job, model = tags(request)
    completed = FlowRunFilterStateName(any_=["Completed"])  # not those of an endpoint given up
    runs = client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=["region"])),
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[model]), state=FlowRunFilterState(name=completed)
        ),
        sort=FlowRunSort.END_TIME_DESC,
        limit=_LAST,
    )
    return [work for work in map(_work, runs) if work is not None]


def _work(run: FlowRun) -> RegionTiming | None:
    """What a run says that it took; None where it does not, or says nonsense."""
    figures = [read_metric(run, name) for name in RegionTiming.__slots__]
    known = [figure for figure in figures if figure]
    return RegionTiming(*known) if len(known) == len(figures) else None


def _workers(client: SyncPrefectClient, name: str) -> int:
    """Regions of a deployment that run at a time: the least of the limits that are set."""
    deployment = client.read_deployment_by_name(name)
    limits: list[int | None] = []
    if (own := deployment.global_concurrency_limit) and own.active:
        limits.append(own.limit)
    if pool := deployment.work_pool_name:
        limits.append(client.read_work_pool(pool).concurrency_limit)
        if queue := deployment.work_queue_name:
            limits.append(client.read_work_queue_by_name(queue, pool).concurrency_limit)
    known = [limit for limit in limits if limit is not None]
    return max(1, min(known, default=settings().region_workers))
