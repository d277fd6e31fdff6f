"""What a region's run learned about its endpoint, for the later regions of the same image."""

from __future__ import annotations

from dataclasses import asdict, replace
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.runtime import flow_run

from flows.run_records import (
    PREFECT_ERRORS,
    children_of,
    client_without_retries,
    read_positive_metrics,
)
from tasks.inference.concurrency_estimator import CapacityEstimate

_LAST = 3  # regions of an image whose metrics are looked at
_REGIONS = "concurrent_regions"  # name of the metric: regions that ran when the estimate was made


def capacity_metrics(estimate: CapacityEstimate) -> dict[str, float]:
    """The metrics of this run that `earlier_estimate` reads; none if Prefect does not answer."""
    try:
        image = flow_run.parent_flow_run_id  # read from Prefect
        if image is None:
            return {}
        with client_without_retries() as client:
            return asdict(estimate) | {_REGIONS: _running(client, image)}
    except PREFECT_ERRORS:
        return {}


def earlier_estimate() -> CapacityEstimate | None:
    """The estimate of the region that learned one last in the image of this run, as a share.

    A region that takes the place of another one starts with as many calls as that one made. If
    more regions run by now, each starts with its share of the calls that those made together.

    Returns:
        None if none of the last regions learned anything, or if Prefect does not answer. A region
        whose answers are kept learns nothing.
    """
    try:
        image = flow_run.parent_flow_run_id
        if image is None:
            return None
        with client_without_retries() as client:
            last = client.read_flow_runs(
                flow_run_filter=_regions(image, "Completed"),  # not those that gave up the endpoint
                sort=FlowRunSort.END_TIME_DESC,
                limit=_LAST,
            )
            running = _running(client, image) if last else 1
        return next(filter(None, (share_of(run, running) for run in last)), None)
    except PREFECT_ERRORS as error:
        get_run_logger().warning("The metrics of the last region cannot be read: %r", error)
        return None


def share_of(run: FlowRun, regions: int) -> CapacityEstimate | None:
    """The share of a region in the calls that an earlier region, and those beside it, made.

    Args:
        run: The run of the earlier region.
        regions: Regions that run by now.

    Returns:
        No more than the earlier region's estimate; None unless its metrics are positive numbers.
    """
    metrics = read_positive_metrics(run, [*CapacityEstimate.__slots__, _REGIONS])
    if not metrics:
        return None
    *values, regions_then = metrics
    estimate = CapacityEstimate(*values)
    return replace(estimate, concurrency=estimate.concurrency * min(1, regions_then / regions))


def _running(client: SyncPrefectClient, image: str) -> int:
    """Regions of an image that run, this one among them."""
    return max(1, client.count_flow_runs(flow_run_filter=_regions(image, "Running")))


def _regions(image: str, state: str) -> FlowRunFilter:
    """Select the regions of an image in a state, by its name."""
    named = FlowRunFilterState(name=FlowRunFilterStateName(any_=[state]))
    return children_of(UUID(image)).model_copy(update={"state": named})
