"""The removal of old answers, which a sensor starts about once an hour beside its messages."""

from __future__ import annotations

import time
from contextvars import copy_context
from datetime import UTC, datetime
from threading import Thread

from prefect import get_client, get_run_logger
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)

from flows.cancel import UNFINISHED
from tasks.records.record import ImageRecord
from tasks.records.retention import sweep

_INTERVAL = 3600.0  # seconds between the starts of two sweeps


class Sweeper:
    """Removes old answers from the work store, in a thread of its own."""

    def __init__(self) -> None:
        self._next = 0.0  # of the monotonic clock
        self._thread: Thread | None = None

    def start_if_due(self) -> None:
        """Start a sweep, unless one is at work or the last one began less than an hour ago."""
        if time.monotonic() < self._next or (self._thread and self._thread.is_alive()):
            return
        self._next = time.monotonic() + _INTERVAL
        # the context of this run, for its logger and its Prefect server
        self._thread = Thread(target=copy_context().run, args=(_sweep,), daemon=True)
        self._thread.start()


def _sweep() -> None:
    log = get_run_logger()
    try:
        images = sweep(datetime.now(UTC), is_live)
    except Exception as error:  # the next sweep may succeed
        log.warning("Old answers are not removed: %r", error)
    else:
        if images:
            log.info("Answers of %d images were kept long enough, and are removed", images)


def is_live(record: ImageRecord) -> bool:
    """Whether a run of a record's job works or waits in Prefect."""
    filter_ = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[f"job:{record.job_id}"]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNFINISHED)),
    )
    image = FlowFilter(name=FlowFilterName(any_=["image"]))
    with get_client(sync_client=True) as client:
        return client.count_flow_runs(flow_filter=image, flow_run_filter=filter_) > 0
