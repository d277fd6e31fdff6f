"""One attempt at a region: a run of its deployment, which the image's run waits for."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import datetime
from functools import partial
from typing import TypeVar, cast

import httpx
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run as this_flow_run
from prefect.runtime import task_run as this_task_run

from flows.abort import AbortSignal
from flows.alive import SILENCE, LifeSigns, sign_of
from flows.cancel import cancel, never_started
from flows.intervals import Interval
from flows.region_queue import RegionQueue
from flows.run_names import infrastructure_labels, region_run_name, tags
from flows.run_records import NOT_ACCEPTED, client_without_retries, may_answer_later
from flows.stored_request import as_parameter
from tasks.errors import RegionLostError
from tasks.grid.tiles import Region
from tasks.request import Request
from tasks.settings import settings

_POLL, _LONGEST_POLL = 1.0, 10.0  # seconds between two reads of a region's run
_POLL_SHARE = 0.1  # of the time that it has taken so far
_WAITING_POLL = 2.0  # seconds, while it has not started
_LONGEST_REFUSAL = 600.0  # seconds for which calls that Prefect refuses are repeated
_PERMANENT = {httpx.codes.NOT_FOUND, *NOT_ACCEPTED}
"""Status codes of Prefect after which no later call can succeed."""

T = TypeVar("T")


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
    queue: RegionQueue,
) -> None:
    """Run one region on the work pool and wait for it; each attempt is a run of its own.

    Args:
        request: The message.
        image_url: One of its images.
        etag: The image version.
        region: The region.
        work_uri: Folder or s3:// prefix where answers are kept, and what regions come to.
        abort: Shared by the regions of the image.
        queue: Likewise; holds the region back while others of the image wait for a place.

    Raises:
        RegionLostError: The run failed, crashed, was cancelled or deleted, did not start, died, or
            took too long; or it was not started, because of `abort`. A run that had not ended was
            cancelled.
    """
    start = partial(
        run_deployment,
        queue.deployment,
        parameters={
            "request": as_parameter(request, work_uri),
            "image_url": image_url,
            "etag": etag,
            "region": region.model_dump(mode="json"),
            "work_uri": work_uri,
        },
        flow_run_name=region_run_name(image_url, region),
        tags=tags(request),
        # a constant key would return the crashed run again, or one of another image version
        idempotency_key=(
            f"{this_flow_run.id}:{this_flow_run.run_count}:{this_task_run.id}:{this_task_run.run_count}"
        ),
        timeout=0,
    )
    # a repeated call has the same key, so a lost answer creates no second run
    with queue.submission():
        labels = infrastructure_labels(request, image_url, queue.job_variables)
        start = partial(start, job_variables=labels)
        run = cast("FlowRun", _call(start, abort))  # a coroutine only in an event loop
    try:
        run = _await(run, abort, queue)
    finally:
        queue.end()
    if run.state is not None:
        abort.observe(run.state)
    if run.state is None or not run.state.is_completed():
        ended = "was lost" if run.state is None else f"ended {run.state.name}: {run.state.message}"
        raise RegionLostError(abort.reason or f"{run.name} {ended}")


def _await(run: FlowRun, abort: AbortSignal, queue: RegionQueue) -> FlowRun:
    """Wait for a region's run to end.

    It may wait for a worker or a slot without a limit. Once submitted, it must start and end in
    time, and show life.

    Returns:
        The run as it ended.

    Raises:
        RegionLostError: It was cancelled, because it did not start or end in time, died, was
            deleted, or cannot be read, or because the image's run has ended.
    """
    submitted: datetime | None = None
    late = False
    lives = LifeSigns()
    started: Interval | None = None
    with ExitStack() as waits, client_without_retries() as client:
        waits.callback(queue.leave)
        while run.state is None or not run.state.is_final():
            if run.state is not None and not run.state.is_scheduled():
                waits.close()
                started = started or Interval(_POLL, _LONGEST_POLL, _POLL_SHARE)
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
            died = _died(run, lives)
            reason = never_started(run, submitted) or died or _worked_too_long(run)
            if not reason:
                try:
                    abort.wait(started.seconds if started else _WAITING_POLL)
                    run = _call(partial(client.read_flow_run, run.id), abort)
                except RegionLostError as error:
                    reason = str(error)
                    with suppress(Exception):  # it may have started since
                        run = client.read_flow_run(run.id)
                except ObjectNotFound:
                    reason = "its run was deleted in Prefect"
                except Exception as error:
                    reason = f"its run cannot be read in Prefect: {error}"
            if reason:
                _cancel(partial(cancel, client, run, reason, at_once=bool(died)), run, abort)
                raise RegionLostError(f"{run.name}: {reason}")
    return run


def _call(call: Callable[[], T], abort: AbortSignal) -> T:
    """Call Prefect, and repeat the call while Prefect does not answer.

    A region's run goes on without Prefect, so a missing answer is no reason to start a second run.

    Args:
        call: A call that may be repeated.
        abort: Ends the repetition.

    Raises:
        RegionLostError: The image's run has ended.
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
            if may_answer_later(error):
                refused_since = None
            else:
                refused_since = refused_since or time.monotonic()
                if time.monotonic() - refused_since > _LONGEST_REFUSAL:
                    raise
        abort.wait(_POLL)


def _cancel(cancel_run: Callable[[], None], run: FlowRun, abort: AbortSignal) -> None:
    """Cancel a run before the region's next attempt, if Prefect allows it.

    Args:
        cancel_run: Cancels it; may be repeated.
        run: The run as it was last read; it may have been deleted since.
        abort: Ends the tries.
    """
    try:
        _call(cancel_run, abort)
    except Exception as error:
        get_run_logger().warning("%s cannot be cancelled in Prefect: %r", run.name, error)


def _died(run: FlowRun, lives: LifeSigns) -> str:
    """Why the process of a run counts as dead; empty if it does not, or has not started."""
    started = run.state_type in {StateType.RUNNING, StateType.CANCELLING}
    if not started or not lives.silent(run.id, sign_of(run)):
        return ""
    return f"its process has shown no life for {SILENCE:g} s"


def _worked_too_long(run: FlowRun) -> str:
    limit = settings().region_timeout
    if run.start_time is None or run.start_time.timestamp() + limit > time.time():
        return ""
    return f"it took over {limit:g} s (SWATH_REGION_TIMEOUT) and was cancelled"
