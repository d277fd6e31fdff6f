"""Whether what came out of a soak is what Swath promises; each function returns what is wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.results.coverage import TileState
from tests.soak.calls import Call
from tests.soak.drawing import KILLS_IMAGES, FaultKind
from tests.soak.expected import Result

ENDS = {"SUCCESS", "PARTIAL", "FAILED"}
"""The statuses that end a job."""

_WITHOUT_S3 = {FaultKind.AWS_STOPPED, FaultKind.S3_FAILING, FaultKind.STORAGE_DENIED}
_GRACE = 5.0  # seconds that storing answers may take on a busy machine
_FROZEN = {FaultKind.REGION_FROZEN, FaultKind.IMAGE_FROZEN}
_AWAKE = 10.0  # seconds in which a process that goes on learns that it has lost its run
_ATTEMPTS = 3  # of an image: SWATH_IMAGE_ATTEMPTS


@dataclass(frozen=True)
class Hit:
    """A fault that happened.

    Attributes:
        kind: What.
        text: What it hit.
        began: When, in seconds since 1970.
        ended: When it was over; the same if it did not last.
        jobs: The jobs of the runs that it hit.
    """

    kind: FaultKind
    text: str
    began: float
    ended: float
    jobs: frozenset[str] = frozenset()


def repeated_calls(
    calls: Sequence[Call],
    job_of: Mapping[str, str],
    hits: Sequence[Hit],
    storing_interval: float,
) -> Iterator[str]:
    """Paid answers that were asked for again, and that no fault explains.

    A process that is killed may lose the answers of its last `storing_interval` seconds, and those
    to calls in flight. While S3 is away nothing is stored, so that time does not count.

    Args:
        calls: Every call, in the order in which they were answered.
        job_of: The job of each tile, by the tile's digest.
        hits: The faults.
        storing_interval: Seconds after which an answer is stored at the latest.
    """
    answered: dict[str, Call] = {}
    for call in calls:
        if not call.paid:
            continue
        job, before = job_of[call.tile], answered.get(call.tile)
        if before is not None and not any(
            job in hit.jobs and _may_have_lost(hit, before, call, hits, storing_interval)
            for hit in hits
        ):
            yield (
                f"{job}: tile {call.tile[:8]} was answered at {before.ended:.1f} and asked for "
                f"again at {call.began:.1f}"
            )
        answered[call.tile] = call


def _may_have_lost(
    hit: Hit, before: Call, again: Call, hits: Sequence[Hit], storing_interval: float
) -> bool:
    """Whether a fault that hit runs explains that an answer had to be asked for again."""
    awake = hit.ended + _AWAKE if hit.kind in _FROZEN else hit.ended
    if before.began > awake or again.ended < hit.began:
        return False
    away = sum(
        max(0.0, min(other.ended, hit.began) - max(other.began, before.ended))
        for other in hits
        if other.kind in _WITHOUT_S3
    )
    return hit.began - before.ended - away <= storing_interval + _GRACE


def failures(
    name: str, job: str, told: Sequence[str], fault_free: Result, hits: Sequence[Hit]
) -> Iterator[str]:
    """Ends as FAILED that no fault explains.

    A job may fail while there is no bucket for its results, if it is cancelled, and if the runs of
    its images ended too often.

    Args:
        name: The image, for the message.
        job: Its job.
        told: Its statuses.
        fault_free: What it should be.
        hits: The faults.
    """
    if "FAILED" not in told or fault_free.status == "FAILED":
        return
    kinds = [hit.kind for hit in hits if job in hit.jobs]
    if (
        FaultKind.CANCELLED not in kinds
        and all(hit.kind is not FaultKind.BUCKET_MISSING for hit in hits)
        and sum(kind in KILLS_IMAGES for kind in kinds) < _ATTEMPTS
    ):
        yield f"{name}: FAILED, and no fault explains it: {told}, hit by {kinds}"


def statuses(name: str, told: Sequence[str], sent: int) -> Iterator[str]:
    """What is wrong with the statuses of one image, in the order in which they were told.

    Args:
        name: The image, for the message.
        told: The statuses.
        sent: How often its message was sent with an end between: each may have one end.
    """
    if not told or told[-1] not in ENDS:
        yield f"{name}: no status ends it: {told}"
    ends = [status for status in told if status in ENDS]
    if len(ends) > sent:
        yield f"{name}: {len(ends)} statuses end it, and it was sent {sent} times: {told}"


def result(name: str, found: Result, fault_free: Result, without: Result | None) -> Iterator[str]:
    """What is wrong with a result.

    Args:
        name: The image, for the message.
        found: What was published.
        fault_free: What it should be.
        without: What it should be without the tiles that failed in `found` only; None if there are
            none.
    """
    failed = found.tiles(TileState.FAILED) - fault_free.tiles(TileState.FAILED)
    if fault_free.status == "FAILED":
        if found.status != "FAILED":
            yield f"{name}: {found.status}, and without a fault it is FAILED"
        return
    if found.status != "FAILED" and not found.states:
        yield f"{name}: {found.status}, and no ledger was published"
    elif not failed and found != fault_free:
        yield f"{name}: {_difference(found, fault_free)}"
    elif failed and without is not None and found != without:
        yield f"{name}: without {len(failed)} failed tiles, {_difference(found, without)}"


def _difference(found: Result, right: Result) -> str:
    """How two results differ."""
    if found.status != right.status:
        return f"{found.status} in place of {right.status}"
    if found.states != right.states:
        tiles = [n for n in right.states if found.states.get(n) != right.states[n]]
        return f"the states of the tiles {tiles} differ"
    missing = sum(feature not in found.features for feature in right.features)
    added = sum(feature not in right.features for feature in found.features)
    if not missing + added:
        return "features come twice, or in another order"
    return f"{missing} features are missing, {added} are too many, of {len(right.features)}"


def by_image(told: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The statuses of each image, by the attribute `image_id`; of a refused message by its job."""
    found = defaultdict(list)
    for status in told:
        found[status.get("image_id") or f"job {status.get('job_id', '')}"].append(status["status"])
    return found
