"""The expected throughput of an image, from earlier regions of its model and limits in Prefect."""

from __future__ import annotations

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
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort

from flows.run_names import tags
from flows.run_records import PREFECT_ERRORS, read_positive_metrics
from tasks.grid.tiles import Grid
from tasks.planning.region_deployment import region_deployment
from tasks.planning.throughput import (
    RegionTiming,
    Throughput,
    tile_seconds,
    untimed_tile_seconds,
)
from tasks.request import Request
from tasks.settings import settings

_LAST = 10  # regions of a model whose timing is used


def throughput_of(request: Request, grid: Grid, max_workers: int) -> Throughput:
    """The throughput to expect for an image; the default one if Prefect does not answer.

    Args:
        request: Names the model.
        grid: The image's tiles.
        max_workers: Regions that the image's run waits for at a time, at most.
    """
    deployment, log = region_deployment(request), get_run_logger()
    timings: list[RegionTiming] = []
    workers = settings().region_workers if deployment else 1
    try:
        with get_client(sync_client=True) as client:
            timings = _timings(client, request)
            workers = (
                places(client, client.read_deployment_by_name(deployment)) if deployment else 1
            )
    except PREFECT_ERRORS as error:
        log.warning("The timing of earlier regions cannot be read: %r", error)
    pixels = grid.tile_width * grid.tile_height
    untimed = untimed_tile_seconds(request.image_processor.type)
    throughput = Throughput(tile_seconds(timings, pixels, untimed), min(workers, max_workers))
    log.info(
        "Regions are sized for %d at a time and %.3g s per tile",
        throughput.workers,
        throughput.tile_seconds,
    )
    return throughput


def _timings(client: SyncPrefectClient, request: Request) -> list[RegionTiming]:
    """The timing of the last regions of a request's model.

    Models at several places may share a short name, and so a tag: runs of others are left out.
    """
    _job, model, *_owner = tags(request)
    completed = FlowRunFilterStateName(any_=["Completed"])  # not those whose endpoint was given up
    runs = client.read_flow_runs(
        flow_filter=FlowFilter(name=FlowFilterName(any_=["region"])),
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[model]), state=FlowRunFilterState(name=completed)
        ),
        sort=FlowRunSort.END_TIME_DESC,
        limit=_LAST,
    )
    same = [run for run in runs if _model(run) == request.image_processor.name]
    return [timing for timing in map(_timing, same) if timing is not None]


def _model(run: FlowRun) -> object:
    """The name of the model in the request of a region's run; None if it has none."""
    request = run.parameters.get("request")
    processor = request.get("imageProcessor") if isinstance(request, dict) else None
    return processor.get("name") if isinstance(processor, dict) else None


def _timing(run: FlowRun) -> RegionTiming | None:
    """The timing in a run's metrics; None unless all of them exist and are positive."""
    metrics = read_positive_metrics(run, RegionTiming.__slots__)
    return RegionTiming(*metrics) if metrics else None


def places(client: SyncPrefectClient, deployment: DeploymentResponse) -> int:
    """Regions that a deployment runs at a time: the lowest of its limits, or else the setting."""
    return max(1, lowest_limit(client, deployment) or settings().region_workers)


def lowest_limit(client: SyncPrefectClient, deployment: DeploymentResponse) -> int | None:
    """Runs that a deployment, its work pool and its work queue allow at a time; None if any."""
    limits: list[int | None] = []
    if (own := deployment.global_concurrency_limit) and own.active:
        limits.append(own.limit)
    if pool := deployment.work_pool_name:
        limits.append(client.read_work_pool(pool).concurrency_limit)
        if queue := deployment.work_queue_name:
            limits.append(client.read_work_queue_by_name(queue, pool).concurrency_limit)
    return min((limit for limit in limits if limit is not None), default=None)
