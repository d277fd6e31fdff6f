"""How a run started, stage by stage: what passed before its first tile was answered."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from statistics import median
from typing import Any
from uuid import UUID

import httpx
from prefect import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.runtime import flow_run

from flows.run_records import read_metric

_CLOCKS = 1.0  # seconds that those of a machine and of Prefect's server may be apart

TITLES: Mapping[str, str] = {
    "queued": "queued",
    "provisioned": "provisioned",
    "python": "Python up",
    "first_tile": "first tile",
}
"""What people call the stages."""


@dataclass(frozen=True, slots=True)
class Startup:
    """Seconds of each stage of a run's start; None where it had no such stage, or told nothing.

    Attributes:
        queued: From when it was to run until a worker submitted it: the worker's poll, and the
            wait for a place where the number of runs is limited.
        provisioned: Until its first process began: a machine and a container's image, on ECS.
        python: Until it ran: imports, of whatever starts it too, and Prefect's engine.
        first_tile: Until the model had answered for the first tile.
    """

    queued: float | None = None
    provisioned: float | None = None
    python: float | None = None
    first_tile: float | None = None

    def __str__(self) -> str:
        """In one line."""
        return ", ".join(f"{TITLES[name]} {seconds:.2f} s" for name, seconds in self.stages.items())

    @property
    def stages(self) -> dict[str, float]:
        """Those that it had, in order."""
        told = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: seconds for name, seconds in told.items() if seconds is not None}


def startup(first_tile: float | None) -> Startup:
    """How the current run started; nothing where Prefect does not tell.

    Args:
        first_tile: When its first tile was answered, in seconds since 1970; None where none was.
    """
    try:
        with get_client(sync_client=True) as client:
            run = client.read_flow_run(UUID(flow_run.id))
            states = client.read_flow_run_states(run.id)
    except httpx.HTTPError:
        return Startup()
    # without a deployment there was a process before there was a run: nothing had to start
    began = list(_process_starts()) if run.deployment_id else []
    return stages(states, began, first_tile)


def stages(
    states: Sequence[State[Any]], processes: Sequence[float], first_tile: float | None
) -> Startup:
    """The stages of a run's start.

    Its first process is the oldest of those that began after it was submitted: on ECS that is
    the container's, whatever it goes on to start; under a process worker the one that the worker
    made.

    Args:
        states: All its states, in any order.
        processes: When its process and those that this descends from began, in seconds since
            1970; none for a run in a process that was there before it.
        first_tile: When its first tile was answered, likewise.
    """
    due = submitted = running = None
    for state in sorted(states, key=lambda state: state.timestamp):
        moment = state.timestamp.timestamp()
        if state.is_running():
            running = moment
            break
        if state.is_scheduled():  # also while it waits for a place
            scheduled = state.state_details.scheduled_time or state.timestamp
            due = due or max(moment, scheduled.timestamp())
            submitted = None
        elif state.is_pending():  # those that follow tell of its machine
            submitted = submitted or moment
    if running is None:
        return Startup()
    answered = None if first_tile is None else max(0.0, first_tile - running)
    if submitted is None or not processes:
        return Startup(first_tile=answered)
    its_own = [began for began in processes if began > submitted - _CLOCKS]
    began = min(max(submitted, min(its_own, default=submitted)), running)
    return Startup(
        queued=max(0.0, submitted - (due or submitted)),
        provisioned=began - submitted,
        python=running - began,
        first_tile=answered,
    )


def _process_starts() -> Iterator[float]:
    """When this process and those that it descends from began, in seconds since 1970."""
    # late: nothing before the first tile needs it
    import psutil  # noqa: PLC0415

    # Linux tells when it booted in whole seconds only, and psutil counts from there
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    process = psutil.Process()
    with suppress(psutil.Error):  # a parent may end, or not be ours to see
        for each in [process, *process.parents()]:
            yield each.create_time() - psutil.boot_time() + booted


def startup_of(run: FlowRun) -> Startup:
    """How a run started, by what it left on itself."""
    return Startup(**{name: read_metric(run, name) for name in TITLES})


def medians(startups: Sequence[Startup]) -> Startup:
    """The median of each stage, over the runs that had it."""
    told = {name: [s.stages[name] for s in startups if name in s.stages] for name in TITLES}
    return Startup(**{name: median(found) for name, found in told.items() if found})
