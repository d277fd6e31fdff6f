"""Shows the progress of an image's run on a terminal, as Prefect has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from threading import Event, Thread

import httpx
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from rich.console import Console
from rich.text import Text

from flows.cancel import UNFINISHED
from flows.restarts import has_ended
from flows.run_records import read_pages

_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_POLL_INTERVAL = 1.0  # seconds


def image_run(client: SyncPrefectClient, job_id: str) -> FlowRun | None:
    """The image run of a job that is at work or waits; else the one that ended last.

    Of several, the one that was created last; None if there is none yet.
    """
    flow = FlowFilter(name=FlowFilterName(any_=["image"]))
    tags = FlowRunFilterTags(all_=[f"job:{job_id}"])
    # a crashed run may be started again
    types = FlowRunFilterStateType(any_=[*UNFINISHED, StateType.CRASHED])
    unfinished = FlowRunFilter(tags=tags, state=FlowRunFilterState(type=types))
    query = partial(client.read_flow_runs, flow_filter=flow, flow_run_filter=unfinished)
    if live := [run for run in read_pages(query) if not has_ended(run)]:
        return max(live, key=lambda run: run.created or _LONG_AGO)
    ended = client.read_flow_runs(
        flow_filter=flow,
        flow_run_filter=FlowRunFilter(tags=tags),
        sort=FlowRunSort.END_TIME_DESC,
        limit=1,
    )
    return ended[0] if ended else None


def progress_text(client: SyncPrefectClient, run: FlowRun) -> str | None:
    """The text of an image run's progress artifact, or None if there is none yet."""
    artifacts = client.read_artifacts(
        artifact_filter=ArtifactFilter(
            type=ArtifactFilterType(any_=["progress"]),
            flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]),
        ),
        limit=1,
    )
    return artifacts[0].description if artifacts else None


@contextmanager
def show_progress(
    job_id: str, console: Console, first: str = "Opening the image …"
) -> Iterator[None]:
    """Show a job's progress while the block lasts.

    A terminal shows one line that changes; other outputs get a new line for each change.

    Args:
        job_id: The job.
        console: Where to print the progress.
        first: Text to show until the run has a progress artifact.
    """
    ended = Event()
    thread = Thread(target=_watch, args=(job_id, console, first, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _watch(job_id: str, console: Console, first: str, ended: Event) -> None:
    text = first
    with get_client(sync_client=True) as client, console.status(Text(text)) as status:
        if not console.is_terminal:
            console.print(text)
        while not ended.wait(_POLL_INTERVAL):
            try:
                run = image_run(client, job_id)
                now = (run and progress_text(client, run)) or first
            except httpx.HTTPError:
                continue
            if now != text:
                text = now
                status.update(Text(text))
                if not console.is_terminal:
                    console.print(text)
