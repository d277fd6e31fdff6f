"""The regions of an image at work: each in a run of its own, on the work pool or here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect import tags
from prefect.client.schemas.objects import State
from prefect.futures import wait
from prefect.states import Failed

from flows.image_runs import tags as tags_of
from flows.progress import image_progress
from flows.region import region as region_flow
from flows.region_attempt import AbortSignal, run_region
from tasks.errors import SwathError
from tasks.grid.tiles import Region
from tasks.planning.plan import Plan
from tasks.settings import settings

AT_ONCE = 32
"""Regions waited for at a time; the own limit of their deployment says how many run."""


def run_regions(plan: Plan, regions: Sequence[Region], work_uri: str) -> list[State[Any]]:
    """How each region's run ended, its progress shown on the image's.

    Args:
        plan: Of the image.
        regions: What it is worked in.
        work_uri: Folder or s3:// prefix where they leave what they find.
    """
    with image_progress(regions):
        return _run(plan, regions, work_uri)


def _run(plan: Plan, regions: Sequence[Region], work_uri: str) -> list[State[Any]]:
    """How each region's run ended: on the work pool, or in turn in this process.

    A single one is in this process: no machine has to start for it, as there is one.
    """
    work = [(plan.request, plan.image.url, plan.image.etag, region, work_uri) for region in regions]
    abort = AbortSignal()
    if settings().region_deployment is None or len(work) == 1:
        with tags(*tags_of(plan.request)):
            return [_run_here(region, abort) for region in work]
    attempt = run_region.with_options(
        retries=settings().region_attempts - 1,
        retry_condition_fn=lambda *_: not abort.reason,
    )
    futures = [attempt.submit(*region, abort=abort) for region in work]
    wait(futures)
    return [future.state for future in futures]


def _run_here(work: tuple[Any, ...], abort: AbortSignal) -> State[Any]:
    """How a region's run in this process ended, tried as often as on the work pool.

    It is not begun where an earlier one told that there is no hope for it.
    """
    end: State[Any] = Failed(message=abort.reason)
    for _ in range(settings().region_attempts):
        if abort.reason or end.is_completed():
            break
        end = region_flow(*work, return_state=True)
        abort.observe(end)
    return end


def why_lost(end: State[Any]) -> str:
    """Why a region's run gave nothing, in the words of what went wrong."""
    error = end.result(raise_on_failure=False)
    return str(error) if isinstance(error, SwathError) else end.message or str(end.name)
