"""Detections in groups such that what is found in one has no bearing on any other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled
from tasks.merge.groups import firsts
from tasks.merge.tree import Tree, holds, plant_all, remove, touching


def clusters(bounds: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Group boxes of one label that meet or touch, and those that others lead to by steps of that.

    No algorithm lets one detection bear on another that no such chain leads to.

    Every union leaves one group less and is found in a tree, so the time is near-linear, whatever
    the boxes; memory is linear, about 150 bytes a box.

    Args:
        bounds: (n, 4) x_min, y_min, x_max, y_max in pixels, closed.
        labels: (n,) boxes of two labels are never together.

    Returns:
        (n,) the group of each, numbered from 0 by their first members.
    """
    tree = plant_all(np.asarray(bounds, np.float64), labels)
    owners = np.arange(len(bounds))
    _join(tree, owners)
    groups = firsts(owners, np.arange(len(owners)))
    _, members, numbers = np.unique(groups, return_index=True, return_inverse=True)
    by_first: NDArray[np.int64] = np.argsort(np.argsort(members))[numbers]
    return by_first


@compiled
def _join(tree: Tree, owners: NDArray[np.int64]) -> None:
    """Let each box take those that it touches, and those take on; what is taken leaves the tree."""
    count = len(owners)
    boxes = tree.bounds[:count].copy()
    waiting = np.empty(count, np.int64)
    for leaf in range(count):
        waiting[0] = leaf
        left = 1 if holds(tree, leaf) else 0
        while left > 0:
            left -= 1
            row = boxes[waiting[left]]
            for other in touching(tree, (row[0], row[1], row[2], row[3], row[4])):
                owners[tree.places[other]] = tree.places[leaf]
                remove(tree, other)
                waiting[left] = other
                left += 1
