"""The runs of images in Prefect, as the commands for jobs show them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Cancelling

from deployments.jobs.image_run import CANCELLING, RUNNING, WAITING, ImageRun
from flows.announce import status_of
from flows.cancel import UNFINISHED
from flows.restarts import has_ended, will_restart
from flows.run_records import PREFECT_ERRORS, read_pages
from flows.startup import startup_of
from flows.waiting_list import WAITING as TURN
from flows.waiting_list import reasons
from tasks.errors import StackError
from tasks.records.record import CANCELLED

_MOST_RUNS = 2000  # to look at for all jobs
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_AT_A_TIME = 100  # progress artifacts in one question
_BY_WORKER = "Flow run was cancelled successfully."  # a worker's message, which says nothing more
_WAITS = {
    "AwaitingConcurrencySlot": "waits until fewer images run",
    "AwaitingRetry": "is to be started again",
    TURN: "waits for its turn",
}


@contextmanager
def prefect_client() -> Iterator[SyncPrefectClient]:
    """A client of the Prefect server.

    Raises:
        StackError: The server does not answer, or refuses.
    """
    try:
        with get_client(sync_client=True) as client:
            yield client
    except PREFECT_ERRORS as error:
        raise StackError(f"Prefect does not answer as it should: {error}") from error


def runs_of(client: SyncPrefectClient, job_id: str | None = None) -> list[ImageRun]:
    """The newest run of each image of a job, or of the newest jobs, the newest first.

    Args:
        client: Of the server.
        job_id: The job; None for all, of which the newest 2,000 runs are looked at.
    """
    runs = [*islice(_read(client, job_id), _MOST_RUNS if job_id is None else None)]
    waits = reasons(client) if any(run.state_name == TURN for run in runs) else {}
    found: dict[tuple[str, str], ImageRun] = {}
    # one that was postponed may be expected to start after one that was created later
    for run in sorted(runs, key=lambda run: run.created or _LONG_AGO, reverse=True):
        for each in _images(run, waits.get(run.id)):
            found.setdefault((each.job_id, each.image_url), each)
    return list(found.values())


def progress_of(client: SyncPrefectClient, runs: Sequence[ImageRun]) -> dict[UUID, str]:
    """The text of the progress of each run that has one, by the run's id."""
    texts: dict[UUID, str] = {}
    for start in range(0, len(runs), _AT_A_TIME):
        some = [run.id for run in runs[start : start + _AT_A_TIME]]
        artifacts = client.read_artifacts(
            artifact_filter=ArtifactFilter(
                key=ArtifactFilterKey(any_=["progress"]),
                flow_run_id=ArtifactFilterFlowRunId(any_=some),
            )
        )
        texts |= {
            each.flow_run_id: each.description or "" for each in artifacts if each.flow_run_id
        }
    return texts


def deployment_name(client: SyncPrefectClient, runs: Sequence[ImageRun]) -> str | None:
    """The deployment of the first run that has one, `flow/deployment`; None if none has."""
    for run in runs:
        if run.deployment is not None:
            try:
                return f"image/{client.read_deployment(run.deployment).name}"
            except ObjectNotFound:  # it was deleted
                continue
    return None


def cancel_runs(client: SyncPrefectClient, job_id: str, images: Sequence[str]) -> list[str]:
    """Cancel the runs of images that have not ended, as the pages of Prefect do.

    A run that waits, also to be started again, is Cancelled at once, one at work by its worker. A
    run of several images, which processes one after the other, is cancelled if all of them are
    meant.

    Args:
        client: Of the server.
        job_id: The job.
        images: The URLs of the images.

    Returns:
        The names of the cancelled runs.
    """
    types = [*UNFINISHED, StateType.CRASHED]
    found = list(_read(client, job_id, FlowRunFilterState(type=FlowRunFilterStateType(any_=types))))
    meant = [
        run
        for run in found
        if not has_ended(run) and {each.image_url for each in _images(run)} <= {*images}
    ]
    for run in meant:
        crashed = run.state is not None and run.state.is_crashed()
        new: State[Any] = Cancelled() if crashed else Cancelling()
        new.message = "Cancelled by `swath cancel`."
        client.set_flow_run_state(run.id, new, force=crashed)
    return [run.name for run in meant]


def _read(
    client: SyncPrefectClient, job_id: str | None, state: FlowRunFilterState | None = None
) -> Iterator[FlowRun]:
    """The runs of the image flow, the newest first."""
    tags = None if job_id is None else FlowRunFilterTags(all_=[f"job:{job_id}"])
    query = partial(
        client.read_flow_runs,
        flow_filter=FlowFilter(name=FlowFilterName(any_=["image"])),
        flow_run_filter=FlowRunFilter(tags=tags, state=state),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
    )
    return read_pages(query)


def _images(run: FlowRun, waits: str | None = None) -> Iterator[ImageRun]:
    """The images that a run is about: one, or all of its request, which have runs of their own.

    Args:
        run: The run.
        waits: Why it waits for its turn, if it does and that is known.
    """
    request, image_url = run.parameters.get("request"), run.parameters.get("image_url")
    if not isinstance(request, dict):
        return
    status, text = _status(run)
    if waits and run.state_name == TURN:
        text = waits
    for url in [image_url] if image_url else request.get("imageUrls", []):
        yield ImageRun(
            id=run.id,
            job_id=str(request.get("jobId", "")),
            image_url=url,
            request=request,
            status=status,
            text=text,
            # Prefect gives a start to what was cancelled before it began
            began=run.start_time if run.run_count else None,
            changed=run.state.timestamp if run.state else run.created,
            deployment=run.deployment_id,
            startup=startup_of(run).stages,
        )


def _status(run: FlowRun) -> tuple[str, str]:
    state = run.state
    if state is None or state.is_scheduled() or state.is_pending() or state.is_paused():
        return WAITING, _WAITS.get(state.name or "" if state else "", "waits for a worker")
    if will_restart(run):
        return WAITING, _WAITS["AwaitingRetry"]
    if state.is_cancelling():
        return CANCELLING, ""
    if state.is_cancelled():
        return CANCELLED, "" if state.message == _BY_WORKER else state.message or ""
    if not state.is_final():
        return RUNNING, ""
    return status_of(state), state.message or state.name or ""
