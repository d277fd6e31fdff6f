"""The runs of a soak in Prefect, and their processes on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import psutil
from prefect import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType

from flows.cancel import UNFINISHED
from flows.run_records import read_pages
from tests.chain import processes_by_run
from tests.soak.audit import Hit
from tests.soak.drawing import KILLS_IMAGES

_ENDED = [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED]


def unfinished_runs() -> list[FlowRun]:
    """The runs of images and regions that have not ended."""
    return [run for run in _read(UNFINISHED) if is_work(run)]


def ended_regions(hits: Sequence[Hit]) -> Iterator[Hit]:
    """The runs of regions that were ended because their image's run was killed.

    Args:
        hits: The faults.
    """
    killed = [hit for hit in hits if hit.kind in KILLS_IMAGES]
    for run in _read([StateType.CANCELLED, StateType.CRASHED]):
        for hit in killed:
            if is_region(run) and run.end_time and jobs_of([run]) <= hit.jobs:
                end = run.end_time.timestamp()
                yield Hit(hit.kind, run.name, end, end, jobs_of([run]))


def working_processes() -> list[str]:
    """The runs of images and regions that have processes, whatever their state."""
    return [run.name for run, _ in processes(is_work, [*UNFINISHED, *_ENDED])]


def processes(
    wanted: Callable[[FlowRun], bool], states: Sequence[StateType] = (StateType.RUNNING,)
) -> list[tuple[FlowRun, list[psutil.Process]]]:
    """The runs in some states that have processes on this machine, by name."""
    runs = _read(states)
    found = processes_by_run(runs)
    named = sorted((run for run in runs if wanted(run)), key=lambda run: run.name)
    return [(run, found[run.id]) for run in named if run.id in found]


def is_work(run: FlowRun) -> bool:
    """Whether a run is that of an image or of a region, not a sensor."""
    return "request" in run.parameters


def is_region(run: FlowRun) -> bool:
    """Whether a run is that of a region."""
    return "region" in run.parameters


def jobs_of(runs: Sequence[FlowRun]) -> frozenset[str]:
    """The jobs of the images and regions among runs."""
    return frozenset(run.parameters["request"]["jobId"] for run in runs if is_work(run))


def _read(states: Sequence[StateType]) -> list[FlowRun]:
    wanted = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[*states])))
    with get_client(sync_client=True) as prefect:
        return list(read_pages(partial(prefect.read_flow_runs, flow_run_filter=wanted)))
