"""Which detections a region can decide without those of other regions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.grid.tiles import Bounds
from tasks.merge.compiled import compiled, inlined
from tasks.merge.rtree import Tree, build, is_filled, remove, touching

DROPPED, KEPT, UNDECIDED = 0, 1, 2
"""The decision on a detection; UNDECIDED if it depends on detections of other regions."""


def reaches_outside(bounds: NDArray[np.float64], interior: Bounds) -> NDArray[np.bool_]:
    """(n,) True for boxes, (n, 4), that touch or cross the border of an interior, (4,)."""
    outside = (bounds[:, :2] <= interior[:2]) | (bounds[:, 2:] >= interior[2:])
    return np.asarray(outside.any(axis=1))


def clusters(bounds: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Group boxes into the connected components of "same label, and overlaps or touches".

    No algorithm lets a detection of one cluster affect a detection of another cluster.

    Each union removes its box from the tree, so the time is near-linear for any boxes; memory is
    linear, about 150 bytes per box.

    Args:
        bounds: (n, 4) x_min, y_min, x_max, y_max in pixels; closed boxes.
        labels: (n,) boxes with different labels are never in one cluster.

    Returns:
        (n,) cluster of each box, numbered from 0 in the order of their first members.
    """
    tree = build(np.asarray(bounds, np.float64), labels)
    parents = np.arange(len(bounds))
    _unite_touching(tree, parents)
    groups = roots(parents, np.arange(len(parents)))
    _, members, numbers = np.unique(groups, return_index=True, return_inverse=True)
    by_first: NDArray[np.int64] = np.argsort(np.argsort(members))[numbers]
    return by_first


@compiled
def _unite_touching(tree: Tree, parents: NDArray[np.int64]) -> None:
    """Unite all boxes that a chain of touching boxes connects; empties the tree."""
    count = len(parents)
    boxes = tree.bounds[:count].copy()
    stack = np.empty(count, np.int64)
    for leaf in range(count):
        stack[0] = leaf
        size = 1 if is_filled(tree, leaf) else 0
        while size > 0:
            size -= 1
            row = boxes[stack[size]]
            for other in touching(tree, (row[0], row[1], row[2], row[3], row[4])):
                parents[tree.items[other]] = tree.items[leaf]
                remove(tree, other)
                stack[size] = other
                size += 1


# Disjoint sets (Tarjan 1975): `parents` is an (n,) array, at first parents[i] = i.


@inlined
def root(parents: NDArray[np.int64], member: int) -> int:
    """The root of a member's set: its lowest member if the sets were made by `unite`."""
    while parents[member] != member:
        parents[member] = parents[parents[member]]  # halves the path
        member = parents[member]
    return member


@compiled
def roots(parents: NDArray[np.int64], members: NDArray[np.int64]) -> NDArray[np.int64]:
    """(k,) roots of the sets of (k,) members."""
    found = np.empty(len(members), np.int64)
    for k in range(len(members)):
        found[k] = root(parents, members[k])
    return found


@compiled
def unite(parents: NDArray[np.int64], ones: NDArray[np.int64], others: NDArray[np.int64]) -> None:
    """Unite the sets of the two members of each pair, ones[k] and others[k]."""
    for k in range(len(ones)):
        unite_two(parents, ones[k], others[k])


@inlined
def unite_two(parents: NDArray[np.int64], one: int, other: int) -> None:
    """Unite the sets of two members."""
    first, second = root(parents, one), root(parents, other)
    parents[max(first, second)] = min(first, second)
