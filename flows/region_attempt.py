"""One attempt at a region: a run of its deployment, which the image's run waits for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar, cast

import httpx
from prefect import get_client, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run as this_flow_run
from prefect.runtime import task_run as this_task_run

from flows.cancel import cancel, never_started
from flows.image_runs import region_run_name, tags
from flows.region import ENDPOINT_DOWN, IMAGE_REPLACED
from tasks.errors import RegionLostError
from tasks.grid.tiles import Region
from tasks.request import Request
from tasks.settings import settings

_POLL = 1.0  # seconds between two reads of a region's run
_LONGEST_REFUSAL = 600.0  # seconds for which calls that Prefect refuses are repeated
_PERMANENT = {
    httpx.codes.NOT_FOUND,
    httpx.codes.CONFLICT,
    httpx.codes.REQUEST_ENTITY_TOO_LARGE,
    httpx.codes.UNPROCESSABLE_ENTITY,
}
"""Status codes of Prefect after which no later call can succeed."""

T = TypeVar("T")


@dataclass
class AbortSignal:
    """Tells the regions of an image that have not started that they must not start.

    Attributes:
        reason: The endpoint was given up, or the image was replaced; empty while regions may start.
    """

    reason: str = ""

    def observe(self, end: State[Any]) -> None:
        """Set the reason if the final state of a region's run gives one."""
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

    Args:
        request: The message.
        image_url: One of its images.
        etag: The image version.
        region: The region.
        work_uri: Folder or s3:// prefix where answers are kept, and what regions come to.
        abort: Shared by the regions of the image.

    Raises:
        RegionLostError: The run failed, crashed, was cancelled or deleted, did not start, or took
            too long; or it was not started, because of `abort`. A run that had not ended was
            cancelled.
    """
    if abort.reason:
        raise RegionLostError(abort.reason)
    deployment = settings().region_deployment
    assert deployment is not None
    start = partial(
        run_deployment,
        deployment,
        parameters={
            "request": request.model_dump(mode="json"),
            "image_url": image_url,
            "etag": etag,
            "region": region.model_dump(mode="json"),
            "work_uri": work_uri,
        },
        flow_run_name=region_run_name(image_url, region),
        tags=tags(request),
        # a constant key would return the crashed run again, or one of another image version
        idempotency_key=(
            f"{this_flow_run.id}:{this_flow_run.run_count}:{region.index}:{this_task_run.run_count}"
        ),
        timeout=0,
    )
    # a repeated call has the same key, so a lost answer creates no second run
    run = _await(cast("FlowRun", _call(start)))  # a coroutine only in an event loop
    if run.state is not None:
        abort.observe(run.state)
    if run.state is None or not run.state.is_completed():
        ended = "was lost" if run.state is None else f"ended {run.state.name}: {run.state.message}"
        raise RegionLostError(abort.reason or f"{run.name} {ended}")


def _await(run: FlowRun) -> FlowRun:
    """Wait for a region's run to end.

    It may wait for a worker or a slot without a limit. Once submitted, it must start and end in
    time.

    Returns:
        The run as it ended.

    Raises:
        RegionLostError: It was cancelled, because it did not start or end in time, was deleted, or
            cannot be read.
    """
    submitted: datetime | None = None
    late = False
    with get_client(sync_client=True) as client:
        while run.state is None or not run.state.is_final():
            if run.state is not None and run.state.is_pending():
                submitted = (
                    submitted or run.state.timestamp
                )  # later Pending states are about its machine
            if run.state_name == "Late" and not late:
                late = True
                get_run_logger().info(
                    "%s waits for a worker, or for a slot of its work pool, %r",
                    *(run.name, run.work_pool_name),
                )
            reason = never_started(run, submitted) or _worked_too_long(run)
            if not reason:
                time.sleep(_POLL)
                try:
                    run = _call(partial(client.read_flow_run, run.id))
                except ObjectNotFound:
                    reason = "its run was deleted in Prefect"
                except Exception as error:
                    reason = f"its run cannot be read in Prefect: {error}"
            if reason:
                _cancel(client, run, reason)
                raise RegionLostError(f"{run.name}: {reason}")
    return run


def _call(call: Callable[[], T]) -> T:
    """Call Prefect, and repeat the call while Prefect does not answer.

    A region's run goes on without Prefect, so a missing answer is no reason to start a second run.

    Args:
        call: A call that may be repeated.

    Raises:
        Exception: No later call can succeed (`_PERMANENT`); or for ten minutes Prefect has refused
            the call (401, 403), or something other than Prefect has answered, such as a proxy.
    """
    refused_since: float | None = None
    while True:
        try:
            return call()
        except (httpx.HTTPError, ValueError) as error:  # ValueError: the body is not Prefect's
            status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else 0
            if status in _PERMANENT:
                raise
            if isinstance(error, httpx.TransportError) or status in {408, 429} or status >= 500:
                refused_since = None
            else:
                refused_since = refused_since or time.monotonic()
                if time.monotonic() - refused_since > _LONGEST_REFUSAL:
                    raise
        time.sleep(_POLL)


def _cancel(client: SyncPrefectClient, run: FlowRun, reason: str) -> None:
    """Cancel a run before the region's next attempt, if Prefect allows it.

    Args:
        client: Client of Prefect.
        run: The run as it was last read; it may have been deleted since.
        reason: Why it is cancelled.
    """
    try:
        _call(partial(cancel, client, run, reason))
    except Exception as error:
        get_run_logger().warning("%s cannot be cancelled in Prefect: %r", run.name, error)


def _worked_too_long(run: FlowRun) -> str:
    limit = settings().region_timeout
    if run.start_time is None or run.start_time.timestamp() + limit > time.time():
        return ""
    return f"it took over {limit:g} s (SWATH_REGION_TIMEOUT) and was cancelled"
