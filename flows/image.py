"""One image: plan → regions → merge → publish → summary."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

from prefect import flow
from prefect.client.schemas.objects import FlowRun, State
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

import flows.secret_blocks  # noqa: F401 - so that requests may name Secret blocks
from flows.abort import AbortSignal
from flows.alive import alive
from flows.announce import PARTIAL, announce, announce_end, announce_start, status_of
from flows.cancel import IMAGE_ENDED, cancel_children, cancel_regions
from flows.measured import measured
from flows.question_claim import claimed
from flows.regions import MAX_CONCURRENT, run_regions
from flows.report import PICTURE_SIZE, report
from flows.restarts import count_start, end_crashed
from flows.run_form import RequestInForm
from flows.run_names import add_tags, run_name
from flows.throughput import throughput_of
from tasks.errors import SwathError
from tasks.grid.tiles import Region
from tasks.job.damage import despite_damage
from tasks.job.division import lasting_division
from tasks.job.earlier import completed_earlier
from tasks.job.image import FinishedImage, finish_image, not_asked
from tasks.job.kept import kept_of, kept_without_asking
from tasks.job.limits import check_limits
from tasks.job.measures import failure_counted
from tasks.planning.plan import Plan
from tasks.records.record import Recorder
from tasks.reporting.status import JobStatus
from tasks.reporting.summary import IncompleteJobError, Summary
from tasks.request import Request
from tasks.steps import merge_step, plan_step, publish_step

_SEVERITY = [JobStatus.SUCCESS, JobStatus.PARTIAL, JobStatus.FAILED]
_TASKS = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=MAX_CONCURRENT))


def _name() -> str:
    request = Request.model_validate(flow_run.parameters["request"])
    image_url = flow_run.parameters.get("image_url") or request.image_urls[0]
    return run_name(image_url, request.job_id)


@flow(
    name="image",
    flow_run_name=_name,
    task_runner=_TASKS,
    on_completion=[announce_end],
    on_failure=[cancel_regions, announce_end],
    on_crashed=[end_crashed],
    on_cancellation=[cancel_regions, announce_end],
)
def image(
    request: RequestInForm,
    image_url: str | None = None,
    region_size: int | None = None,
    ask: bool = True,
) -> State[Summary]:
    """Detect the objects of an image and publish them.

    Args:
        request: What to do: images, outputs, the model and how it is called.
        image_url: One of the request's images; None for all of them, one after the other.
        region_size: Approximate height of a region in pixels; None for the operator's setting. If
            that is not set either, the height follows from the expected throughput.
        ask: Whether to ask the model for tiles that were not answered yet; if not, the results are
            made of the answers that are kept.
    """
    count_start()
    add_tags(request)
    abort = AbortSignal()

    def cancel(run: FlowRun) -> None:
        abort.end(IMAGE_ENDED)
        cancel_children(run)

    with alive(on_cancel=cancel):
        if image_url is None and len(request.image_urls) > 1:
            return _each(request, region_size, ask=ask)
        try:
            url = image_url or request.image_urls[0]
            with measured(request, url):
                return _work(request, url, region_size, abort, ask=ask)
        except SwathError as error:  # its message is complete without a traceback
            return Failed(message=str(error), data=error)


def _work(
    request: Request, url: str, region_size: int | None, abort: AbortSignal, *, ask: bool
) -> State[Summary]:
    began = datetime.now(UTC)
    recorder = Recorder(request.job_id, url, flow_run.id)
    recorder.began(request)
    announce_start(request, url)
    plan: Plan = plan_step(request, url, ask=ask)
    if ask and (earlier := completed_earlier(plan)):
        recorder.finished(earlier, plan.identity, plan.image.etag)
        where = ", ".join(earlier.outputs.values())
        message = f"published already by an earlier run, as {where}: {earlier.message}"
        return Completed(message=message, data=earlier)
    with failure_counted(plan):
        kept = kept_of(plan) if ask else kept_without_asking(plan)
        throughput = partial(throughput_of, plan.request, plan.grid, MAX_CONCURRENT)
        regions = lasting_division(plan, kept, region_size, throughput)
        if ask:
            check_limits(plan, regions, kept)
    recorder.planned(plan.image.etag, kept.answers, len(plan.grid))
    announce(request, url, JobStatus.IN_PROGRESS, plan.text(len(regions)))
    worked: dict[int, Region] = {}

    def work() -> FinishedImage:
        with claimed(kept, abort) if ask else nullcontext():
            unfinished = kept.unfinished(plan.request, regions)
            worked.update((region.index, region) for region in unfinished)
            lost = (
                run_regions(plan, regions, unfinished, kept, abort)
                if ask
                else not_asked(unfinished)
            )
        return finish_image(
            plan,
            regions,
            lost,
            kept,
            flow_run.get_scheduled_start_time(),
            began=began,
            merge=merge_step,
            publish=partial(publish_step, preview_size=PICTURE_SIZE),
        )

    with failure_counted(plan):
        finished = despite_damage(work, work)
    recorder.finished(finished.summary, plan.identity, plan.image.etag)
    report(plan, regions, list(worked.values()), finished)
    return _final_state(finished.summary)


def _each(request: Request, region_size: int | None, *, ask: bool) -> State[Summary]:
    """Run every image of a request in a run of its own; returns the worst of their states."""
    ends: list[State[Any]] = [
        image(request, url, region_size, ask, return_state=True) for url in request.image_urls
    ]
    worst = max(ends, key=lambda end: _SEVERITY.index(status_of(end)))
    # a copy: of the state of another run, Prefect would keep the type alone
    return State(type=worst.type, name=worst.name, message=worst.message, data=worst.data)


def _final_state(summary: Summary) -> State[Summary]:
    """The run's state, named after the job's status; the flow's hooks announce it.

    PARTIAL is a state of type FAILED. Prefect shows COMPLETED in green, as a success; and after it
    takes a run as CRASHED or CANCELLED, it may start it again, or cancel its subflows.
    """
    if summary.status is JobStatus.SUCCESS:
        return Completed(message=summary.message, data=summary)
    name = PARTIAL if summary.status is JobStatus.PARTIAL else "Failed"
    return Failed(name=name, message=summary.message, data=IncompleteJobError(summary))
