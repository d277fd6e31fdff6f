"""What every run does for its operator: metrics, spans, and log lines that say whose they are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run
from prefect.telemetry.run_telemetry import LABELS_TRACEPARENT_KEY
from prefect.types import KeyValueLabels

from tasks.request import Request
from tasks.telemetry.export import start_telemetry
from tasks.telemetry.fields import process_works_on, working_on
from tasks.telemetry.logs import set_up_logs
from tasks.telemetry.spans import span, traceparent


@contextmanager
def measured(
    request: Request | None = None, image_url: str | None = None, region: str | None = None
) -> Iterator[None]:
    """Measure the block, the work of this flow's run.

    Its log lines and spans have the job, image, region, run and attempt. In a run of an image or a
    region a span is around it, whose parent is that of the run which created this one.

    Args:
        request: The message, if the run is about one.
        image_url: The image, if the run is about one.
        region: Name of the region, if the run is about one.
    """
    start_telemetry()
    _set_up_logs()
    fields = {
        "job": request.job_id if request else None,
        "image": image_url,
        "region": region,
        "run": str(flow_run.id),
        "attempt": str(flow_run.run_count),
    }
    with process_works_on(**fields), working_on(**fields):
        if request is None:
            yield
            return
        context = FlowRunContext.get()
        labels = context.flow_run.labels if context and context.flow_run else {}
        parent = labels.get(LABELS_TRACEPARENT_KEY)
        kind = "image" if region is None else "region run"
        with span(kind, str(parent) if parent else None):
            labels.update(trace_labels())  # tasks and runs that Prefect starts are within it
            yield


def trace_labels() -> KeyValueLabels:
    """Labels of a run that is created now, by which its spans belong to the present trace."""
    parent = traceparent()
    return {LABELS_TRACEPARENT_KEY: parent} if parent else {}


def _set_up_logs() -> None:
    """Have what `tasks` logs in a run shown in Prefect too, and in the form that is set."""
    set_up_logs()
    log = logging.getLogger("tasks")
    log.setLevel(min(log.getEffectiveLevel(), logging.INFO))
    if any(isinstance(each, APILogHandler) for each in log.handlers):
        return  # by PREFECT_LOGGING_EXTRA_LOGGERS
    handler = APILogHandler()
    handler.addFilter(lambda _: bool(FlowRunContext.get() or TaskRunContext.get()))
    log.addHandler(handler)
