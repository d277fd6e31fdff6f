"""Proof of life of runs: their processes show that they live, and end when others ended the run."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime
from functools import partial
from threading import Event, Thread
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.logging.handlers import APILogWorker
from prefect.logging.loggers import flow_run_logger
from prefect.states import Cancelled

from flows.labels import ALIVE
from flows.run_records import client_without_retries, write_labels

BEAT = 10.0
"""Seconds between two changes of a label that shows life."""

SILENCE = 75.0
"""Seconds without a change of its label, after which a process counts as dead.

Long enough for several changes to fail, as an overloaded Prefect server may refuse some.
"""

_CHECK = 5.0  # seconds between two reads of the own run's state
_GRACE = 12.0  # seconds in which the worker of a cancelled run may end its process; it may poll
_LONGEST_GAP = 30.0  # seconds between two observations that count as time observed

_MOST_RUNS = 10_000  # runs that an observer remembers

_logger = logging.getLogger(__name__)

_LIVING: ContextVar[FlowRun | None] = ContextVar("living", default=None)

Check = Callable[[SyncPrefectClient, Event], None]
"""Is called with a client of Prefect, and the event that ends the calls."""


class LifeSigns:
    """Finds out which processes show no more sign of life, by signs that no longer change.

    An observer compares signs with earlier ones, never with a clock of another machine. Time in
    which it did not observe, for example because Prefect did not answer, does not count.
    """

    def __init__(self) -> None:
        self._signs: dict[UUID, tuple[Hashable, float, float]] = {}

    def silent(self, run: UUID, sign: Hashable) -> bool:
        """Observe a run: whether its sign has not changed for `SILENCE` seconds of observation.

        Args:
            run: Id of the run.
            sign: Its sign of life as just read.
        """
        return self.unchanged(run, sign) >= SILENCE

    def unchanged(self, run: UUID, sign: Hashable) -> float:
        """Observe a run: for how many seconds of observation its sign has not changed."""
        now = time.monotonic()
        last, seconds, observed = self._signs.get(run, (None, 0.0, now))
        seconds = seconds + min(now - observed, _LONGEST_GAP) if sign == last else 0.0
        self._signs[run] = (sign, seconds, now)
        if len(self._signs) > _MOST_RUNS:  # the one that was observed first is over by now
            self._signs.pop(next(iter(self._signs)))
        return seconds


def sign_of(run: FlowRun) -> Hashable:
    """The sign of life of a run as it was read: new with each beat and with each state."""
    return (run.state_id, run.labels.get(ALIVE))


@contextmanager
def alive(on_cancel: Callable[[FlowRun], None] = lambda _: None) -> Iterator[None]:
    """While it is open, show that this run's process lives; end the process if the run was ended.

    Runs of deployments only: no other is restarted. The process owns its run as long as the run is
    in the `Running` state that this process set. If it was cancelled, crashed, scheduled again or
    taken over by another process, this process ends at once, without another call of the model,
    anything published, or a state of its own set. If that happened while it was starting, it ends
    before the block begins.

    Args:
        on_cancel: Is called with the run before the process ends because that was cancelled.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None or run.state is None:
        yield
        return
    ending = Event()
    end_if_lost = partial(_end_if_lost, run, on_cancel, ending)
    _call_once(end_if_lost)
    living = _LIVING.set(run)
    with beating(run.id, ALIVE, end_if_lost):
        try:
            yield
            # one that was paused may come to its end before the thread has looked again
            _call_once(end_if_lost)
        finally:
            _LIVING.reset(living)
            if ending.is_set():  # what `on_cancel` ended must set no state
                Event().wait()


def living_run() -> FlowRun | None:
    """The run whose life this process shows, also for the runs inside it; None outside `alive`."""
    return _LIVING.get()


@contextmanager
def beating(
    run_id: UUID, label: str, check: Check | None = None, *, who: str = ""
) -> Iterator[None]:
    """While it is open, change a label of a run every ten seconds, in a thread.

    Args:
        run_id: The run.
        label: Name of the label.
        check: Is called every five seconds.
        who: Of a claim: the value begins with it, the time follows, and the label has it already.
    """
    closed = Event()
    beat = partial(_beat, run_id, label, check, who, closed)
    # the context of this run, so that it uses the same Prefect server
    Thread(target=copy_context().run, args=(beat,), name=label, daemon=True).start()
    try:
        yield
    finally:
        closed.set()


def _beat(run_id: UUID, label: str, check: Check | None, who: str, closed: Event) -> None:
    """Change the label and call `check` until the event is set; the next try may succeed."""
    due = time.monotonic() + (BEAT if who else 0.0)  # who claims something has just said so
    while not closed.is_set():
        try:
            with client_without_retries() as client:
                while not closed.is_set():
                    if check is not None:
                        check(client, closed)
                    if time.monotonic() >= due:
                        write_labels(client, run_id, {label: who + datetime.now(UTC).isoformat()})
                        due = time.monotonic() + BEAT
                    closed.wait(_CHECK)
        except Exception:
            _logger.debug("The label %s is not changed", label, exc_info=True)
            closed.wait(_CHECK)


def _call_once(check: Check) -> None:
    """Call `check` in this thread; if Prefect does not answer, a later call may succeed."""
    with suppress(Exception), client_without_retries() as client:
        check(client, Event())


def _end_if_lost(
    run: FlowRun,
    on_cancel: Callable[[FlowRun], None],
    ending: Event,
    client: SyncPrefectClient,
    closed: Event,
) -> None:
    """End this process if its run is no longer in the state that it was given.

    Args:
        run: The run, as this process got it.
        on_cancel: As of `alive`.
        ending: Is set before the process ends.
        client: Client of Prefect.
        closed: Set when the flow's function has returned: then the state may be its own again.
    """
    states = client.read_flow_run_states(run.id)
    if closed.is_set():
        return
    if states and states[-1].id == run.state_id:
        # several processes of a run may have been starting
        while states and states[-1].is_running():
            states.pop()
        if not states or not states[-1].is_final():
            return
        # it was cancelled or given up while this process was starting, which Prefect lets it do
        end: State[Any] = State(**states[-1].model_dump(include={"type", "name", "message"}))
        client.set_flow_run_state(run.id, end, force=True)
    if _is_own_process(run):
        ending.set()
    try:
        _end_work(run, states[-1] if states else None, on_cancel, client)
    finally:
        _end_process(run)


def _end_work(
    run: FlowRun,
    state: State[Any] | None,
    on_cancel: Callable[[FlowRun], None],
    client: SyncPrefectClient,
) -> None:
    """Say why this process ends, and end its calls.

    A worker looks only every ten seconds for runs that are cancelled if no WebSocket reaches it,
    and of a process that has ended before, it leaves the run Cancelling for five minutes. So the
    process itself ends that of a region. That of an image is left to the worker, or the sensor,
    which announces its end.

    Args:
        run: The run, as this process got it.
        state: The state that others set; None if they deleted the run.
        on_cancel: As of `alive`.
        client: Client of Prefect.
    """
    reason = f"it is {state.name}" if state else "it was deleted in Prefect"
    flow_run_logger(run).warning("This process ends, as others ended its run: %s", reason)
    if state is None or state.is_cancelling() or state.is_cancelled():
        try:
            on_cancel(run)
        except Exception:
            _logger.debug("The cancelling of %s failed", run.name, exc_info=True)
    if state is not None and state.is_cancelling():
        time.sleep(_GRACE)
        if run.parent_task_run_id is not None:
            client.set_flow_run_state(run.id, Cancelled(message=state.message), force=True)


def _end_process(run: FlowRun) -> None:
    """End this process, if it was started for a run, without any other code of it running.

    It ends as if it had succeeded: after any other exit status, Prefect would set the state
    Crashed, although the run may be another process's by now.
    """
    if _is_own_process(run):
        with suppress(Exception):
            APILogWorker.drain_all(timeout=1)
        os._exit(0)


def _is_own_process(run: FlowRun) -> bool:
    """Whether this process was started for a run."""
    return os.environ.get("PREFECT__FLOW_RUN_ID") == str(run.id)
