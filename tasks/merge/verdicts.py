"""Greedy decisions over pairs, of which some must wait for what is known elsewhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled

DEAD, KEPT, UNKNOWN = 0, 1, 2
"""What becomes of a detection: it goes, it stays, or it depends on what is not known here."""


def decide(
    order: NDArray[np.int64],
    blockers: NDArray[np.int64],
    blocked: NDArray[np.int64],
    doubtful: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """Go through detections in an order, and drop each that one which stays blocks.

    One that an unknown one blocks, or that is doubtful itself, is unknown unless it goes anyway.

    Args:
        order: (n,) the places of all detections, the most important first.
        blockers: (p,) place of the first of each pair, which comes earlier in `order`.
        blocked: (p,) place of the second, which the first would drop.
        doubtful: (n,) of which something unknown may drop.

    Returns:
        (n,) DEAD, KEPT or UNKNOWN.
    """
    by_blocked = np.argsort(blocked, kind="stable")
    starts = np.searchsorted(blocked[by_blocked], np.arange(len(order) + 1))
    verdicts = np.where(doubtful, UNKNOWN, KEPT).astype(np.uint8)
    _decide(order, starts, blockers[by_blocked], verdicts)
    return verdicts


@compiled
def _decide(
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    blockers: NDArray[np.int64],
    verdicts: NDArray[np.uint8],
) -> None:
    for place in order:
        for pair in range(starts[place], starts[place + 1]):
            verdict = verdicts[blockers[pair]]
            if verdict == KEPT:
                verdicts[place] = DEAD
                break
            if verdict == UNKNOWN:
                verdicts[place] = UNKNOWN
