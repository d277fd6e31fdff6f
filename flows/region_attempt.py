"""One attempt at a region: a run of its deployment, waited for by the image's run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

import httpx
from prefect import get_client, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import PrefectHTTPStatusError
from prefect.runtime import flow_run as this_flow_run
from prefect.runtime import task_run as this_task_run

from flows.cancel import cancel, never_started
from flows.image_runs import tags
from flows.region import ENDPOINT_DOWN, IMAGE_REPLACED
from tasks.errors import RegionLostError
from tasks.grid.tiles import Region
from tasks.request import Request
from tasks.settings import settings

_POLL = 1.0  # seconds between looks at a region's run


@dataclass
class AbortSignal:
    """What an image's regions tell each other.

    Attributes:
        hopeless: Why none need begin any more: one gave the endpoint up, or found another version
            of the image; empty where none has.
    """

    reason: str = ""

    def observe(self, end: State[Any]) -> None:
        """Learn from how a region's run ended."""
        if end.name in {ENDPOINT_DOWN, IMAGE_REPLACED}:
            self.reason = end.message or end.name or ""


@task(
    name="region",
    task_run_name="region {region.number} of {region.of}",
    cache_policy=NO_CACHE,
)
def run_region(
    request: Request,
    image_url: str,
    etag: str,
    region: Region,
    work_uri: str,
    *,
    abort: AbortSignal,
) -> None:
    """Run one region on the work pool and wait for it; each attempt is a run of its own.

    Raises:
        RegionLostError: The run failed, crashed, was cancelled, did not start, or took too long;
            or it was not begun, as there is no hope for it.
    """
    if abort.reason:
        raise RegionLostError(abort.reason)
    deployment = settings().region_deployment
    assert deployment is not None
    started = run_deployment(
        deployment,
        parameters={
            "request": request.model_dump(mode="json"),
            "image_url": image_url,
            "etag": etag,
            "region": region.model_dump(mode="json"),
            "work_uri": work_uri,
        },
        flow_run_name=region.name,
        tags=tags(request),
        # a constant key would return the crashed run again, or one of another version of the image
        idempotency_key=(
            f"{this_flow_run.id}:{this_flow_run.run_count}:{region.index}:{this_task_run.run_count}"
        ),
        timeout=0,
    )
    run = _await(cast("FlowRun", started).id)  # a coroutine only where there is an event loop
    if run.state is not None:
        abort.observe(run.state)
    if run.state is None or not run.state.is_completed():
        ended = "was lost" if run.state is None else f"ended {run.state.name}: {run.state.message}"
        raise RegionLostError(abort.reason or f"{run.name} {ended}")


def _await(run_id: UUID) -> FlowRun:
    """A region's run, ended; it may wait for its turn, but neither start nor work for ever."""
    submitted: datetime | None = None
    told_late = False
    with get_client(sync_client=True) as client:
        while True:
            try:
                run = client.read_flow_run(run_id)
            except httpx.HTTPError as error:
                if isinstance(error, PrefectHTTPStatusError) and error.response.is_client_error:
                    raise  # it will never be told
                time.sleep(_POLL)  # the region goes on without Prefect, and so do we
                continue
            if run.state is not None and run.state.is_final():
                return run
            if run.state is not None and run.state.is_pending():
                submitted = submitted or run.state.timestamp  # states of its machine follow
            if run.state_name == "Late" and not told_late:
                told_late = True
                get_run_logger().info(
                    "%s waits for a worker, or for a place on its work pool, %r",
                    *(run.name, run.work_pool_name),
                )
            if why := never_started(run, submitted) or _worked_too_long(run):
                cancel(client, run, why)
                raise RegionLostError(f"{run.name}: {why}")
            time.sleep(_POLL)


def _worked_too_long(run: FlowRun) -> str:
    limit = settings().region_timeout
    if run.start_time is None or run.start_time.timestamp() + limit > time.time():
        return ""
    return f"it took over {limit:g} s (SWATH_REGION_TIMEOUT) and was cancelled"
