"""How long each stage of a run's start took, until the first tile was inferred."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from statistics import median
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.runtime import flow_run

from flows.run_records import PREFECT_ERRORS, client_for_records, read_metric
from tasks.telemetry.catalogue import STARTUP_DURATION
from tasks.telemetry.source import SOURCE

_CLOCK_SKEW = 1.0  # seconds by which the clocks of this machine and the server may differ

TITLES: Mapping[str, str] = {
    "queued": "queued",
    "provisioned": "provisioned",
    "python": "Python up",
    "first_tile": "first tile",
}
"""The stages, with the names that users see."""


@dataclass(frozen=True, slots=True)
class Startup:
    """Seconds of each stage of a run's start; None if it had no such stage, or it is not known.

    Attributes:
        queued: From its scheduled time until a worker submitted it: the worker's poll, and the
            wait for a slot if the number of runs is limited.
        provisioned: Until its first process started: on ECS, a machine and the container's image.
        python: Until the flow ran: imports, also those of the launcher, and Prefect's engine.
        first_tile: Until the model answered for the first tile.
    """

    queued: float | None = None
    provisioned: float | None = None
    python: float | None = None
    first_tile: float | None = None

    def __str__(self) -> str:
        """The stages in one line."""
        return ", ".join(f"{TITLES[name]} {seconds:.2f} s" for name, seconds in self.stages.items())

    @property
    def stages(self) -> dict[str, float]:
        """Seconds of the stages that it had, by name and in order."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: seconds for name, seconds in found.items() if seconds is not None}


def startup(first_tile: float | None) -> Startup:
    """How the current run started; no stages if Prefect does not answer.

    Args:
        first_tile: When the model answered for the first tile, in seconds since 1970; None if it
            answered for none.
    """
    try:
        with client_for_records() as client:
            return read_startup(client, first_tile)
    except PREFECT_ERRORS:
        return Startup()


def read_startup(client: SyncPrefectClient, first_tile: float | None) -> Startup:
    """How the current run started, by what a client of Prefect reads, or raises.

    Args:
        client: Client of Prefect.
        first_tile: As for `startup`.
    """
    run = client.read_flow_run(UUID(flow_run.id))
    states = client.read_flow_run_states(run.id)
    # a run without a deployment uses a process that existed before it
    began = list(_process_starts()) if run.deployment_id else []
    return stages(states, began, first_tile)


def stages(
    states: Sequence[State[Any]], processes: Sequence[float], first_tile: float | None
) -> Startup:
    """The stages of a run's start.

    The run's first process is the oldest one that started after the run was submitted: on ECS the
    container's, under a process worker the one that the worker started.

    Args:
        states: All states of the run, in any order.
        processes: Start times of its process and of that one's ancestors, in seconds since 1970;
            empty for a run in a process that existed before it.
        first_tile: When the model answered for the first tile, in seconds since 1970, or None.
    """
    due = submitted = running = None
    for state in sorted(states, key=lambda state: state.timestamp):
        moment = state.timestamp.timestamp()
        if state.is_running():
            running = moment
            break
        if state.is_scheduled():  # also while it waits for a slot
            scheduled = state.state_details.scheduled_time or state.timestamp
            due = due or max(moment, scheduled.timestamp())
            submitted = None
        elif state.is_pending():  # later Pending states are about its machine
            submitted = submitted or moment
    if running is None:
        return Startup()
    answered = None if first_tile is None else max(0.0, first_tile - running)
    if submitted is None or not processes:
        return Startup(first_tile=answered)
    its_own = [began for began in processes if began > submitted - _CLOCK_SKEW]
    began = min(max(submitted, min(its_own, default=submitted)), running)
    return Startup(
        queued=max(0.0, submitted - (due or submitted)),
        provisioned=began - submitted,
        python=running - began,
        first_tile=answered,
    )


def _process_starts() -> Iterator[float]:
    """Start times of this process and of its ancestors, in seconds since 1970."""
    # imported late, as nothing before the first tile needs it
    import psutil  # noqa: PLC0415

    # psutil counts from the boot time, which Linux gives in whole seconds only
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    process = psutil.Process()
    with suppress(psutil.Error):  # an ancestor may end, or be another user's
        for each in [process, *process.parents()]:
            yield each.create_time() - psutil.boot_time() + booted


def record_start(run: str, start: Startup) -> None:
    """Count how long each stage of the start of this run took, in metrics.

    Args:
        run: Its flow.
        start: Its stages.
    """
    for stage, seconds in start.stages.items():
        SOURCE.observe(STARTUP_DURATION, seconds, Run=run, Stage=stage)


def startup_of(run: FlowRun) -> Startup:
    """How a run started, by the metrics on it."""
    return Startup(**{name: read_metric(run, name) for name in TITLES})


def medians(startups: Sequence[Startup]) -> Startup:
    """The median of each stage over the runs that had it."""
    seconds = {name: [s.stages[name] for s in startups if name in s.stages] for name in TITLES}
    return Startup(**{name: median(found) for name, found in seconds.items() if found})
