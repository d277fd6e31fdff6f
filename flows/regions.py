"""The regions of an image: each in a run of its own, on the work pool or in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import Any, cast

from prefect import tags
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.states import Failed

from flows.abort import AbortSignal
from flows.cancel import IMAGE_ENDED
from flows.progress import image_progress
from flows.region import TURN, Turn, client_of
from flows.region import region as region_flow
from flows.region_attempt import run_region
from flows.region_queue import RegionQueue
from flows.run_names import tags as tags_of
from tasks.errors import ImageUnreachableError, SwathError
from tasks.grid.tiles import Region
from tasks.job.kept import Kept
from tasks.job.measures import backlog
from tasks.job.turns import MAX_AT_A_TIME, work_in_turn
from tasks.planning.plan import Plan
from tasks.planning.region_deployment import onnx_deployment, region_deployment
from tasks.settings import settings

MAX_CONCURRENT = 32
"""Region runs that an image's run waits for at a time; their deployment may run fewer of them."""


def run_regions(
    plan: Plan,
    regions: Sequence[Region],
    unfinished: Sequence[Region],
    kept: Kept,
    abort: AbortSignal,
) -> dict[int, str]:
    """Run the unfinished regions of an image and show the progress on the image's run.

    Args:
        plan: The plan of the image.
        regions: All its regions.
        unfinished: Those that no earlier run has completed.
        kept: Where answers are kept, and what the regions come to.
        abort: Shared by the regions of the image.

    Returns:
        Index of each region that did not come to its end, with the reason.

    Raises:
        RegionLostError: The image's run was ended, so that nothing may be published.
    """
    if not unfinished:
        return {}
    with image_progress(regions, unfinished), backlog(plan, unfinished) as done:
        ends = _run(plan, unfinished, kept.folder, abort, done)
    abort.wait(0)
    return {
        region.index: _reason(end)
        for region, end in zip(unfinished, ends, strict=True)
        if not end.is_completed()
    }


def _run(
    plan: Plan,
    regions: Sequence[Region],
    work_uri: str,
    abort: AbortSignal,
    done: Callable[[int], None],
) -> list[State[Any]]:
    """Run the regions on the work pool, or in turn in this process.

    A single region runs in this process too, because no machine has to start for it, unless its
    model has machines of its own. `done` is called with the index of each region that has ended.

    Returns:
        The final state of each region's run.
    """
    work = [(plan.request, plan.image.url, plan.image.etag, region, work_uri) for region in regions]
    deployment = region_deployment(plan.request)
    if deployment is None or (len(work) == 1 and onnx_deployment(plan.request) is None):
        with tags("region", *tags_of(plan.request)):
            return _run_here(work, abort, done)
    attempt = run_region.with_options(
        retries=settings().region_attempts - 1,
        retry_condition_fn=lambda *_: not abort.reason,
    )
    queue = RegionQueue(deployment, plan.request, abort)
    try:
        futures = [attempt.submit(*region, abort=abort, queue=queue) for region in work]
        for future, region in zip(futures, regions, strict=True):
            future.add_done_callback(partial(_ended, region, done))
        wait(futures)
    except BaseException:  # a signal ends this run
        abort.end(IMAGE_ENDED)
        raise
    return [future.state for future in futures]


def _ended(region: Region, done: Callable[[int], None], _: PrefectFuture[Any]) -> None:
    done(region.index)


def _run_here(
    work: Sequence[tuple[Any, ...]], abort: AbortSignal, done: Callable[[int], None]
) -> list[State[Any]]:
    """Run regions in this process, with as many attempts as on the work pool.

    The next region starts when the last one has read its tiles. None starts after the reason of
    `abort` is set.

    Returns:
        The final state of each region's last attempt.
    """
    ends: list[State[Any] | None] = [None] * len(work)
    attempts = [0] * len(work)
    with (
        ThreadPoolExecutor(MAX_AT_A_TIME, thread_name_prefix="regions") as threads,
        closing(client_of(work[0][0])) as shared,
    ):
        abort.at_end(shared.close)

        def run(number: int, next_may_begin: Callable[[], None]) -> bool:
            if abort.reason:
                ends[number] = ends[number] or Failed(message=abort.reason)
                return False
            turn = TURN.set(Turn(shared, next_may_begin))
            try:
                end = ends[number] = region_flow(*work[number], return_state=True)
            finally:  # a single region is worked in the context of the image's run
                TURN.reset(turn)
            abort.observe(end)
            attempts[number] += 1
            if end.is_completed():
                done(work[number][3].index)
                return False
            if attempts[number] < settings().region_attempts:
                return True
            error = end.result(raise_on_failure=False)
            if isinstance(error, ImageUnreachableError) and not error.partly:
                abort.reason = str(error)
            return False

        work_in_turn(range(len(work)), run, threads)
    return cast("list[State[Any]]", ends)


def _reason(end: State[Any]) -> str:
    """Why a region's run stored no results."""
    error = end.result(raise_on_failure=False)
    return str(error) if isinstance(error, SwathError) else end.message or str(end.name)
