"""One image: open → plan → fan out → merge → publish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import pyarrow as pa
from prefect import flow, get_run_logger
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

import flows.secret_blocks  # noqa: F401 - so that requests may name Secret blocks
from flows.announce import announce, announce_end, announce_start
from flows.cancel import cancel_regions
from flows.image_runs import run_name
from flows.regions import AT_ONCE, run_regions, why_lost
from flows.report import report
from flows.workers import throughput_of
from tasks.errors import PublishError, SwathError
from tasks.grid.tiles import Region
from tasks.planning.plan import Plan
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import JobFailedError, Summary, status_of, summarise
from tasks.request import Request
from tasks.results import coverage
from tasks.results.coverage import TileState
from tasks.results.stored import StoredResults, load_ledger, without_detections
from tasks.settings import settings
from tasks.steps import merge_step, plan_step, publish_step
from tasks.storage import objects

_TASKS = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=AT_ONCE))


def _name() -> str:
    request = Request.model_validate(flow_run.parameters["request"])
    image_url = flow_run.parameters.get("image_url") or request.image_urls[0]
    return run_name(image_url, request.job_id)


def _forget(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001
    """Remove what the regions of a cancelled run left: a hook, as its process was ended."""
    objects.remove(_work_uri(flow_run.id))


@flow(
    name="image",
    flow_run_name=_name,
    task_runner=_TASKS,
    on_completion=[announce_end],
    on_failure=[cancel_regions, announce_end],
    on_crashed=[cancel_regions, announce_end],
    on_cancellation=[cancel_regions, announce_end, _forget],
)
def image(
    request: Request, image_url: str | None = None, region_size: int | None = None
) -> State[Summary]:
    """Find what there is in an image, and publish it.

    Args:
        request: The message.
        image_url: Which of the message's images; left out, each of them in turn.
        region_size: Rows of a region, about, in pixels; left out, what the operator set, or else
            what makes minutes of work for each worker.
    """
    if image_url is None and len(request.image_urls) > 1:
        return _each(request, region_size)
    try:
        return _work(request, image_url or request.image_urls[0], region_size)
    except SwathError as error:  # told in its own words, without a traceback
        return Failed(message=str(error), data=error)


def _work(request: Request, url: str, region_size: int | None) -> State[Summary]:
    announce_start(request, url)
    plan: Plan = plan_step(request, url)
    regions = _regions(plan, region_size or settings().region_size)
    announce(request, url, JobStatus.IN_PROGRESS, plan.text(len(regions)))
    with _work_folder() as work_uri:
        ends = run_regions(plan, regions, work_uri)
        ledgers = [
            load_ledger(work_uri, region) if end.is_completed() else _lost(plan, region, end)
            for region, end in zip(regions, ends, strict=True)
        ]
        done = [region for region, end in zip(regions, ends, strict=True) if end.is_completed()]
        summary = _finish(plan, ledgers, StoredResults(work_uri, done, plan.grid))
    report(summary, regions, ledgers)
    return _conclude(summary)


def _regions(plan: Plan, rows: int | None) -> list[Region]:
    if rows is not None:
        return plan.regions(rows)
    return plan.sized_regions(throughput_of(plan.request, plan.grid, AT_ONCE))


def _work_uri(run_id: object) -> str:
    return objects.join(settings().work_uri, str(run_id))


@contextmanager
def _work_folder() -> Iterator[str]:
    """Where regions leave what they find; what cannot be removed of it costs no result."""
    work_uri = _work_uri(flow_run.id)
    try:
        yield work_uri
    finally:
        try:
            objects.remove(work_uri)
        except PublishError as error:
            get_run_logger().warning("%s", error)


def _each(request: Request, region_size: int | None) -> State[Summary]:
    """Every image of a request in a run of its own; the worst end of them is this run's."""
    ends: list[State[Any]] = [
        image(request, url, region_size, return_state=True) for url in request.image_urls
    ]
    return max(ends, key=lambda end: (not end.is_completed(), end.name != "Completed"))


def _lost(plan: Plan, region: Region, end: State[Any]) -> pa.Table:
    """The ledger of a region that left none: the tiles of it that were asked for failed."""
    failed = without_detections(plan.tiles_in_roi(region), TileState.FAILED, why_lost(end))
    return coverage.concatenate([plan.outside(region).ledger, failed.ledger])


def _finish(plan: Plan, ledgers: Sequence[pa.Table], kept: StoredResults) -> Summary:
    """Prove that all was looked at, merge what had to wait, and publish both."""
    ledger = coverage.measure(coverage.concatenate(ledgers), plan.grid, plan.roi)
    coverage.check_complete(ledger, plan.grid, plan.roi)
    all_rejected = coverage.rejected(ledger) > 0 and coverage.detections(ledger) == 0
    status = status_of(coverage.count(ledger), all_rejected=all_rejected)
    deferred, decided = kept.deferred()
    merged = plan.clip_to_roi(merge_step(deferred, plan.request.algorithm, plan.grid, ledger))
    if status is JobStatus.FAILED:
        outputs = _publish_ledger(plan, ledger)
    else:
        started = flow_run.get_scheduled_start_time()
        bands = partial(kept.bands, merged)
        outputs = publish_step(plan.request, plan.image, bands, ledger, started)
    return summarise(
        ledger,
        job_id=plan.request.job_id,
        image=plan.image.url,
        status=status,
        features=decided + len(merged),
        outputs=outputs,
    )


def _publish_ledger(plan: Plan, ledger: pa.Table) -> dict[str, str]:
    """Publish why every tile failed; that it cannot be published is not what people must know."""
    started = flow_run.get_scheduled_start_time()
    try:
        outputs: dict[str, str] = publish_step(plan.request, plan.image, None, ledger, started)
    except PublishError as error:
        get_run_logger().warning("%s", error)
        return {}
    return outputs


def _conclude(summary: Summary) -> State[Summary]:
    """The run's last state, named after the job's status; the flow's hooks announce it."""
    if summary.status is JobStatus.FAILED:
        return Failed(message=summary.message, data=JobFailedError(summary.message, summary))
    name = "Completed" if summary.status is JobStatus.SUCCESS else "Partial"
    return Completed(name=name, message=summary.message, data=summary)
