"""Groups that grow by pairs (disjoint sets, Tarjan 1975), each named by its first member."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled, inlined


@inlined
def first_of(groups: NDArray[np.int64], member: int) -> int:
    """The first member of the group of one; `groups` as in `firsts`."""
    while groups[member] != member:
        groups[member] = groups[groups[member]]  # so that chains stay short
        member = groups[member]
    return member


@compiled
def firsts(groups: NDArray[np.int64], members: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first member of the group of each of some members.

    Args:
        groups: (n,) each member's group as far as it is known: itself at the beginning.
        members: (k,) any of 0 to n − 1.
    """
    found = np.empty(len(members), np.int64)
    for k in range(len(members)):
        found[k] = first_of(groups, members[k])
    return found


@compiled
def unite(groups: NDArray[np.int64], ones: NDArray[np.int64], others: NDArray[np.int64]) -> None:
    """Make the groups of the members of each pair one."""
    for k in range(len(ones)):
        one, other = first_of(groups, ones[k]), first_of(groups, others[k])
        groups[max(one, other)] = min(one, other)
