"""Of the image runs that have the same question for a model, one asks at a time.

Messages of one job that differ in merging or outputs have runs of their own, which keep their
answers together. If both are at work at once, each would ask for every tile. So an object beside
the answers names the run that asks; the others wait, and find what it was answered.

A run waits only for one whose process is at work: that one needs no place which this run has, so
they cannot wait for each other. If that process dies, the next run takes over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from uuid import UUID

from prefect import get_run_logger
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound

from flows.abort import AbortSignal
from flows.alive import LifeSigns, living_run, sign_of
from flows.cancel import cancel_children
from flows.progress import waiting_shown
from flows.restarts import will_restart
from flows.run_records import PREFECT_ERRORS, client_without_retries
from tasks.errors import PublishError
from tasks.job.kept import Kept
from tasks.storage import conditional, objects
from tasks.storage.conditional import Version

_NAME = "asking"  # of the object: id of the flow run, and that of the state of its process
_POLL = 1.0  # seconds between two looks at the run that asks
_MOST_REFUSALS = 30  # of a claim that nobody holds: of several runs, one is not refused

_logger = logging.getLogger(__name__)


@contextmanager
def claimed(kept: Kept, abort: AbortSignal) -> Iterator[None]:
    """While it is open, no other run asks the model the same; wait until none does.

    Without effect outside a run of a deployment, as only these show that they live.

    Args:
        kept: Where the answers to the question are kept.
        abort: Of the image's run; ends the wait.

    Raises:
        RegionLostError: The run ended while it waited.
        PublishError: The work store does not answer.
    """
    run = living_run()
    if run is None:
        yield
        return
    uri = objects.join(kept.folder, _NAME)
    version = _claim(uri, run, abort)
    try:
        yield
    finally:
        try:
            conditional.remove_if(uri, version)
        except PublishError as error:  # who waits sees that this run has ended
            _logger.warning("%s", error)


def _claim(uri: str, run: FlowRun, abort: AbortSignal) -> Version:
    """Wait for the claim and take it; returns the version of its object."""
    own = f"{run.id} {run.state_id}".encode()
    lives, waits_for, refusals = LifeSigns(), None, 0
    with ExitStack() as waits:
        while True:
            found = conditional.read(uri)
            if found and found[0] == own:
                return found[1]
            other = _claimant(found[0]) if found else None
            if other is None or other == run.id or not _at_work(other, lives):
                if conditional.put_if(uri, own, found and found[1]):
                    continue  # whether it is there still is read, with its version
                if (refusals := refusals + 1) > _MOST_REFUSALS:
                    raise PublishError(
                        f"Cannot write {uri}: the store says each time that it has changed "
                        "meanwhile; a store other than S3 must support If-Match."
                    )
            elif other != waits_for:
                waits.close()
                waits_for = other
                text = f"waits for another run of the image, {other}, which asks the model the same"
                get_run_logger().info("This run %s", text)
                waits.enter_context(waiting_shown(text))
            abort.wait(_POLL)


def _claimant(body: bytes) -> UUID | None:
    """The run that a claim names; None if the claim is damaged."""
    try:
        return UUID(body.decode().partition(" ")[0])
    except ValueError:
        return None


def _at_work(claimant: UUID, lives: LifeSigns) -> bool:
    """Whether the process of a run that has claimed a question is at work, or this is not known.

    If it is gone, the regions of the run are cancelled, as they may be at work still.
    """
    try:
        with client_without_retries() as client:
            run = client.read_flow_run(claimant)
        assert run.state is not None
        # one that crashed is soon set back, after its regions were cancelled
        works = run.state.is_running() or run.state.is_cancelling() or will_restart(run)
        if works and not lives.silent(run.id, sign_of(run)):
            return True
        cancel_children(run, at_once=True)
    except ObjectNotFound:  # it was deleted
        return False
    except PREFECT_ERRORS as error:
        _logger.debug("It is not known what the run %s does: %r", claimant, error)
        return True
    return False
