"""Greedy suppression over explicit pairs, by its definition: what tests hold the fast ones to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.merge.verdicts import DEAD, KEPT, UNKNOWN


def decide(
    order: NDArray[np.int64],
    blockers: NDArray[np.int64],
    blocked: NDArray[np.int64],
    doubtful: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """DEAD, KEPT or UNKNOWN of each, visited in `order`, where blockers[k] drops blocked[k]."""
    verdicts = np.where(doubtful, UNKNOWN, KEPT).astype(np.uint8)
    by_blocked = np.argsort(blocked, kind="stable")
    starts = np.searchsorted(blocked[by_blocked], np.arange(len(order) + 1)).tolist()
    rivals = blockers[by_blocked]
    for place in order.tolist():
        ends = verdicts[rivals[starts[place] : starts[place + 1]]]
        if (ends == KEPT).any():
            verdicts[place] = DEAD
        elif (ends == UNKNOWN).any():
            verdicts[place] = UNKNOWN
    return verdicts
