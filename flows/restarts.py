"""Image runs whose process died: started again while tries are left, or ended as Crashed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.context import FlowRunContext
from prefect.flows import Flow
from prefect.states import AwaitingRetry, Cancelled, Crashed, Running

from flows.alive import SILENCE, LifeSigns, sign_of
from flows.announce import announce_end
from flows.cancel import cancel_children, never_started, stop_task
from flows.labels import ANNOUNCED, CLAIM, HOOKED, RESTARTS
from flows.run_records import PREFECT_ERRORS, client_for_records, log_errors, write_labels
from tasks.aws import ecs
from tasks.settings import settings

HOOKS = timedelta(seconds=30)
"""How long after the end of a run its own hooks may begin to announce it."""

_AFTER_HOOK = 5.0  # seconds after the hook in which a worker sets the state Crashed once more
_WITHOUT_HOOK = timedelta(seconds=60)  # after which a crashed run has no worker that calls hooks


class RunObserver:
    """Finds out which runs lost their process, and whose end nobody announces, by watching them."""

    def __init__(self) -> None:
        self._lives, self._claims, self._hooks = LifeSigns(), LifeSigns(), LifeSigns()

    def reason_lost(self, run: FlowRun) -> str:
        """Why the process of a run that has not ended counts as gone; empty if it does not."""
        assert run.state is not None
        if run.state.is_pending():
            if reason := never_started(run, run.state.timestamp):
                return reason
            if run.run_count > 0:
                return ""  # its task in ECS may be that of an earlier try
        if ecs.is_task(run.infrastructure_pid) and (why := ecs.stopped(run.infrastructure_pid)):
            return f"its ECS task stopped: {why}"
        if not run.state.is_pending() and self._lives.silent(run.id, sign_of(run)):
            return f"its process has shown no life for {SILENCE:.0f} s"
        return ""

    def is_settled(self, run: FlowRun) -> bool:
        """Whether a crashed run's worker is through with it, so that it can be started again.

        A worker sets a run whose process ended to Crashed, calls the hook, and sets it to Crashed
        again, also if it was started again meanwhile.
        """
        if ecs.is_task(run.infrastructure_pid) and ecs.stopped(run.infrastructure_pid):
            return True
        if run.labels.get(HOOKED) == str(run.state_id):
            return self._hooks.unchanged(run.id, run.state_id) >= _AFTER_HOOK
        return run.end_time is None or run.end_time < datetime.now(UTC) - _WITHOUT_HOOK

    def nobody_announces(self, run: FlowRun) -> bool:
        """Whether nobody is about to announce the end of a run that has ended."""
        if claim := run.labels.get(CLAIM):
            return self._claims.silent(run.id, str(claim))
        # a run that never began has no hooks
        return run.run_count == 0 or not run.end_time or run.end_time < datetime.now(UTC) - HOOKS


def count_start() -> None:
    """Have Prefect count the start of this run, which it does not after Resume in its pages.

    It takes Resume for the end of a pause within a run. One that waited for its turn has not
    started before, and without a start counted, Prefect would run it a second time if it failed.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or run.deployment_id is None or run.run_count > 0:
        return
    with log_errors("The start of this run"), client_for_records() as client:
        if client.read_flow_run(run.id).state_id != run.state_id:
            return  # others ended it meanwhile, and `alive` ends this process
        state: State[Any] | None
        try:
            state = client.set_flow_run_state(run.id, Running(), force=True).state
        except PREFECT_ERRORS:  # it may be set, and only its answer lost
            state = client.read_flow_run(run.id).state
        if state is not None and state.is_running() and state.id != run.state_id:
            # in place: Prefect's engine has the same object
            run.run_count, run.state_id, run.state = run.run_count + 1, state.id, state


def has_ended(run: FlowRun) -> bool:
    """Whether a run has ended for good: it is in a final state, and no sensor starts it again."""
    return run.state is not None and run.state.is_final() and not will_restart(run)


def will_restart(run: FlowRun) -> bool:
    """Whether a sensor starts a run that ended again: it crashed, and has tries left.

    Only a run of a deployment: nothing else could start it.
    """
    crashed = run.state is not None and run.state.is_crashed()
    return crashed and not run.labels.get(ANNOUNCED) and _has_tries(run)


def end_crashed(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Cancel the regions of a crashed run and announce its end, unless it is started again: a hook.

    The hook of a process that was killed is called by its worker, with the run as it was before.
    """
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(flow_run.id)
        if run.state is None or not run.state.is_crashed():
            return
        if will_restart(run):
            write_labels(client, run.id, {HOOKED: str(run.state_id)})
            return
    cancel_children(run)
    announce_end(flow, run, state)


def replace_lost(client: SyncPrefectClient, run: FlowRun, reason: str) -> None:
    """Start a run whose process is gone again, if it has tries left, or end it as Crashed.

    It is the same run, as after Retry in Prefect's UI, so its message and its users need no other.
    A run that a user cancelled is not started again. No other process works for the run afterwards:
    one that was wrongly taken for dead ends when it reads the new state (`flows/alive.py`).

    Args:
        client: Client of Prefect.
        run: The run as it was read.
        reason: Why its process counts as gone.
    """
    now = client.read_flow_run(run.id)
    if now.state is None or now.state_id != run.state_id:
        return  # it may have ended by itself, or been replaced by another sensor
    if _was_cancelled(client, now):
        _set(client, now, Cancelled(message=f"Cancelled; {reason}"))
    elif _has_tries(now):
        _restart(client, now, reason)
    elif not now.state.is_final():
        _set(client, now, Crashed(message=f"{reason}; started {settings().image_attempts} times"))
        stop_task(now, reason)


def _restart(client: SyncPrefectClient, run: FlowRun, reason: str) -> None:
    """Have a worker start a run again, when nothing of its last try is at work."""
    cancel_children(run, at_once=True)
    stop_task(run, reason)
    # counted first, so that what kills this process here cannot repeat it without an end
    write_labels(client, run.id, {RESTARTS: _restarts(run) + 1})
    client.update_flow_run(run.id, infrastructure_pid="")  # else its end would end the next try
    _set(
        client, run, AwaitingRetry(scheduled_time=datetime.now(UTC), message=f"Again, as {reason}")
    )


def _set(client: SyncPrefectClient, run: FlowRun, state: State[Any]) -> None:
    # forced, as Prefect allows no other end of a run that is Cancelling. The slot of the
    # deployment's limit is released too
    client.set_flow_run_state(run.id, state, force=True)


def _was_cancelled(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Whether a run was cancelled since its last start, whatever its process ended it as."""
    for state in reversed(client.read_flow_run_states(run.id)):
        if state.type in {StateType.CANCELLING, StateType.CANCELLED}:
            return True
        if state.type in {StateType.RUNNING, StateType.SCHEDULED}:
            return False
    return False


def _has_tries(run: FlowRun) -> bool:
    return run.deployment_id is not None and _restarts(run) < settings().image_attempts - 1


def _restarts(run: FlowRun) -> int:
    """How often a run was started again without its user having asked for it."""
    count = run.labels.get(RESTARTS)
    return count if isinstance(count, int) else 0
