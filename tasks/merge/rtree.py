"""A packed R-tree of labelled boxes: finds boxes that touch one, while others are put or removed.

The leaves are the boxes, sorted by label and then along a space-filling curve (Morton order). Each
8 nodes have one parent that bounds them. The label is a third axis, so that boxes of other labels
are never visited. Boxes may have any mix of sizes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled, inlined

Box = tuple[float, float, float, float, float]  # x_min, y_min, x_max, y_max, label

_LOG2_FANOUT = 3  # 2³ children per node


class Tree(NamedTuple):
    """The tree as arrays, with one leaf for each of n items.

    Attributes:
        bounds: (m, 6) x_min, y_min, x_max, y_max, lowest and highest label of each node, leaves
            first; an empty node has infinite minima.
        levels: (l + 1,) the nodes of level k are levels[k] to levels[k + 1]; level 0: the leaves.
        items: (n,) item of each leaf.
        leaves: (n,) leaf of each item.
        found: (n,) buffer for the result of `touching`.
    """

    bounds: NDArray[np.float64]
    levels: NDArray[np.int64]
    items: NDArray[np.int64]
    leaves: NDArray[np.int64]
    found: NDArray[np.int64]


def build_empty(bounds: NDArray[np.float64], labels: NDArray[np.int64]) -> Tree:
    """A tree whose leaves are all empty.

    Args:
        bounds: (n, 4) approximate box of each item; only the speed depends on it.
        labels: (n,) of the items.
    """
    items = np.lexsort((_morton_codes(bounds), labels)) if len(bounds) else np.empty(0, np.int64)
    leaves = np.empty_like(items)
    leaves[items] = np.arange(len(items))
    counts = [len(items)]
    while counts[-1] > 1:
        counts.append(-(-counts[-1] >> _LOG2_FANOUT))
    levels = np.cumsum([0, *counts])
    empty = np.array([np.inf, np.inf, -np.inf, -np.inf, np.inf, -np.inf])
    return Tree(np.tile(empty, (levels[-1], 1)), levels, items, leaves, np.empty_like(items))


def build(bounds: NDArray[np.float64], labels: NDArray[np.int64]) -> Tree:
    """A tree that holds all boxes, (n, 4), with labels (n,)."""
    tree = build_empty(bounds, labels)
    tree.bounds[: len(bounds), :4] = bounds[tree.items]
    tree.bounds[: len(bounds), 4:] = labels[tree.items, None]
    _update_all(tree)
    return tree


@inlined
def box_of(tree: Tree, leaf: int) -> Box:
    """The box in a leaf."""
    row = tree.bounds[leaf]
    return row[0], row[1], row[2], row[3], row[4]


@inlined
def is_filled(tree: Tree, leaf: int) -> bool:
    """Whether a leaf holds a box."""
    return bool(tree.bounds[leaf, 0] < np.inf)


@compiled
def put(tree: Tree, leaf: int, box: Box) -> None:
    """Set or replace the box in a leaf."""
    for axis in range(5):
        tree.bounds[leaf, axis] = box[axis]
    tree.bounds[leaf, 5] = box[4]
    _update_ancestors(tree, leaf)


@compiled
def remove(tree: Tree, leaf: int) -> None:
    """Empty a leaf."""
    for axis in range(6):
        tree.bounds[leaf, axis] = np.inf
    for axis in (2, 3, 5):
        tree.bounds[leaf, axis] = -np.inf
    _update_ancestors(tree, leaf)


@compiled
def touching(tree: Tree, box: Box) -> NDArray[np.int64]:
    """The leaves, ascending, whose box has the label of `box` and overlaps or touches it.

    Returns a view of `tree.found`, valid until the next call.
    """
    bounds, levels, found = tree.bounds, tree.levels, tree.found
    count, top = len(found), len(levels) - 2
    leaf = level = hits = 0
    while leaf < count:
        while level < top and not leaf & ((1 << _LOG2_FANOUT * (level + 1)) - 1):
            level += 1
        while _touches(bounds, levels[level] + (leaf >> _LOG2_FANOUT * level), box):
            if level == 0:
                found[hits] = leaf
                hits += 1
                break
            level -= 1
        leaf += 1 << _LOG2_FANOUT * level
    return found[:hits]


@inlined
def _touches(bounds: NDArray[np.float64], node: int, box: Box) -> bool:
    return bool(
        bounds[node, 0] <= box[2]
        and bounds[node, 2] >= box[0]
        and bounds[node, 1] <= box[3]
        and bounds[node, 3] >= box[1]
        and bounds[node, 4] <= box[4] <= bounds[node, 5]
    )


@compiled
def _update_all(tree: Tree) -> None:
    for level in range(1, len(tree.levels) - 1):
        for node in range(tree.levels[level + 1] - tree.levels[level]):
            _update(tree, level, node)


@compiled
def _update_ancestors(tree: Tree, leaf: int) -> None:
    """Update the bounds of the nodes above a leaf, up to the first that does not change."""
    node = leaf
    for level in range(1, len(tree.levels) - 1):
        node >>= _LOG2_FANOUT
        if not _update(tree, level, node):
            break


@compiled
def _update(tree: Tree, level: int, node: int) -> bool:
    """Set a node's bounds to those of its children, and return whether they changed.

    Args:
        tree: To update.
        level: Of the node, 1 or more.
        node: Its number within the level.
    """
    first = tree.levels[level - 1] + (node << _LOG2_FANOUT)
    stop = min(first + (1 << _LOG2_FANOUT), tree.levels[level])
    changed = False
    for axis in range(6):
        value = tree.bounds[first, axis]
        for child in range(first + 1, stop):
            other = tree.bounds[child, axis]
            value = min(value, other) if axis in (0, 1, 4) else max(value, other)
        if tree.bounds[tree.levels[level] + node, axis] != value:
            tree.bounds[tree.levels[level] + node, axis] = value
            changed = True
    return changed


def _morton_codes(bounds: NDArray[np.float64]) -> NDArray[np.uint64]:
    """(n,) positions of the centres of boxes along the Morton curve."""
    centres = (bounds[:, :2] + bounds[:, 2:]) / 2
    low = centres.min(axis=0)
    scale = (2**32 - 1) / np.maximum((centres.max(axis=0) - low).max(), 1e-9)
    x, y = _interleaved_with_zeros(((centres - low) * scale).astype(np.uint64)).T
    codes: NDArray[np.uint64] = x | (y << np.uint64(1))
    return codes


def _interleaved_with_zeros(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """32-bit numbers with a zero bit inserted after each of their bits."""
    for shift, mask in (
        (16, 0x0000FFFF0000FFFF),
        (8, 0x00FF00FF00FF00FF),
        (4, 0x0F0F0F0F0F0F0F0F),
        (2, 0x3333333333333333),
        (1, 0x5555555555555555),
    ):
        numbers = (numbers | (numbers << np.uint64(shift))) & np.uint64(mask)
    return numbers
