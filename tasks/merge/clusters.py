"""Detections in groups such that what is found in one has no bearing on any other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled
from tasks.merge.groups import firsts
from tasks.merge.tree import Tree, box_of, holds, plant_all, put, remove, touching


def clusters(
    bounds: NDArray[np.float64], labels: NDArray[np.int64], *, hulls: bool = True
) -> NDArray[np.int64]:
    """Group boxes of one label such that no two groups touch, nor do their hulls.

    They are the finest such groups: boxes that meet or touch are together, and so are groups whose
    hulls do (the hull of a group is the least upright box around it). The weighted mean of a
    group's members lies in the hull, so it never meets a box of another group: what WBF needs.

    Without the hulls, groups are chains of boxes that touch: enough where detections are compared
    as they were seen, as in NMS, SOFT_NMS and NMM. In a crowd, hulls join up far sooner.

    Every union leaves one group less and is found in a tree, so the time is near-linear, whatever
    the boxes; memory is linear, about 150 bytes a box.

    Args:
        bounds: (n, 4) x_min, y_min, x_max, y_max in pixels, closed.
        labels: (n,) boxes of two labels are never together.
        hulls: Whether groups whose hulls touch are one.

    Returns:
        (n,) the group of each, numbered from 0 by their first members.
    """
    tree = plant_all(np.asarray(bounds, np.float64), labels)
    owners = np.arange(len(bounds))
    if hulls:
        _join_hulls(tree, owners)
    else:
        _join_chains(tree, owners)
    groups = firsts(owners, np.arange(len(owners)))
    _, members, numbers = np.unique(groups, return_index=True, return_inverse=True)
    by_first: NDArray[np.int64] = np.argsort(np.argsort(members))[numbers]
    return by_first


@compiled
def _join_chains(tree: Tree, owners: NDArray[np.int64]) -> None:
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


@compiled
def _join_hulls(tree: Tree, owners: NDArray[np.int64]) -> None:
    """Let each group take those that its hull touches, until no two hulls do.

    Groups that are done stay in the tree with their hulls, for later ones may touch them.
    """
    count = len(owners)
    for leaf in range(count):
        if not holds(tree, leaf):
            continue
        alone = hull = box_of(tree, leaf)
        grows = True
        while grows:
            before = hull
            for other in touching(tree, before):
                if other != leaf:
                    owners[tree.places[other]] = tree.places[leaf]
                    taken = box_of(tree, other)
                    hull = (
                        min(hull[0], taken[0]),
                        min(hull[1], taken[1]),
                        max(hull[2], taken[2]),
                        max(hull[3], taken[3]),
                        hull[4],
                    )
                    remove(tree, other)
            grows = hull != before
        if hull != alone:
            put(tree, leaf, hull)
