"""Greedy suppression of explicit pairs, by its definition: the reference for tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.merge.deferral import DROPPED, KEPT, UNDECIDED


def decide(
    order: NDArray[np.int64],
    blockers: NDArray[np.int64],
    blocked: NDArray[np.int64],
    doubtful: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """Decide each detection, visited in `order`, where blockers[k] suppresses blocked[k]."""
    decisions = np.where(doubtful, UNDECIDED, KEPT).astype(np.uint8)
    by_blocked = np.argsort(blocked, kind="stable")
    starts = np.searchsorted(blocked[by_blocked], np.arange(len(order) + 1)).tolist()
    rivals = blockers[by_blocked]
    for place in order.tolist():
        ends = decisions[rivals[starts[place] : starts[place + 1]]]
        if (ends == KEPT).any():
            decisions[place] = DROPPED
        elif (ends == UNDECIDED).any():
            decisions[place] = UNDECIDED
    return decisions
