"""Boxes of several labels, in which those that touch a box are found though they come and go.

A packed R-tree: the boxes are the leaves, in the order of label and then of a curve that fills the
plane (Morton), and every 8 nodes have one above them that encloses them. The label is a third axis,
so boxes of another label are never looked at. Sizes may be mixed: no box is too large for a cell.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled, inlined

Box = tuple[float, float, float, float, float]  # x_min, y_min, x_max, y_max, label

_FAN = 3  # 2³ nodes below each


class Tree(NamedTuple):
    """The tree, in arrays, for n places.

    Attributes:
        bounds: (m, 6) x_min, y_min, x_max, y_max, least and most label of each node, leaves first;
            of an empty one the least are infinite.
        levels: (l + 1,) the nodes of level k are levels[k] to levels[k + 1]; level 0 is the leaves.
        places: (n,) place of each leaf.
        leaves: (n,) leaf of each place.
        found: (n,) what was found last.
    """

    bounds: NDArray[np.float64]
    levels: NDArray[np.int64]
    places: NDArray[np.int64]
    leaves: NDArray[np.int64]
    found: NDArray[np.int64]


def plant(bounds: NDArray[np.float64], labels: NDArray[np.int64]) -> Tree:
    """A tree with room for boxes, and none in it.

    Args:
        bounds: (n, 4) about where each will be; only the speed depends on it.
        labels: (n,)
    """
    places = np.lexsort((_along_curve(bounds), labels)) if len(bounds) else np.empty(0, np.int64)
    leaves = np.empty_like(places)
    leaves[places] = np.arange(len(places))
    counts = [len(places)]
    while counts[-1] > 1:
        counts.append(-(-counts[-1] >> _FAN))
    levels = np.cumsum([0, *counts])
    empty = np.array([np.inf, np.inf, -np.inf, -np.inf, np.inf, -np.inf])
    return Tree(np.tile(empty, (levels[-1], 1)), levels, places, leaves, np.empty_like(places))


def plant_all(bounds: NDArray[np.float64], labels: NDArray[np.int64]) -> Tree:
    """A tree that holds every box, (n, 4), of labels (n,)."""
    tree = plant(bounds, labels)
    tree.bounds[: len(bounds), :4] = bounds[tree.places]
    tree.bounds[: len(bounds), 4:] = labels[tree.places, None]
    _enclose_all(tree)
    return tree


@inlined
def box_of(tree: Tree, leaf: int) -> Box:
    """What a leaf holds."""
    row = tree.bounds[leaf]
    return row[0], row[1], row[2], row[3], row[4]


@inlined
def holds(tree: Tree, leaf: int) -> bool:
    """Whether there is a box in a leaf."""
    return bool(tree.bounds[leaf, 0] < np.inf)


@compiled
def put(tree: Tree, leaf: int, box: Box) -> None:
    """Fill a leaf, or exchange what it holds."""
    for axis in range(5):
        tree.bounds[leaf, axis] = box[axis]
    tree.bounds[leaf, 5] = box[4]
    _enclose_above(tree, leaf)


@compiled
def remove(tree: Tree, leaf: int) -> None:
    """Empty a leaf."""
    for axis in range(6):
        tree.bounds[leaf, axis] = np.inf
    for axis in (2, 3, 5):
        tree.bounds[leaf, axis] = -np.inf
    _enclose_above(tree, leaf)


@compiled
def touching(tree: Tree, box: Box) -> NDArray[np.int64]:
    """The leaves, ascending, that hold a box of a box's label that meets or touches it.

    They stand in `tree.found`, until it is asked again.
    """
    bounds, levels, found = tree.bounds, tree.levels, tree.found
    count, top = len(found), len(levels) - 2
    leaf = level = hits = 0
    while leaf < count:
        while level < top and not leaf & ((1 << _FAN * (level + 1)) - 1):
            level += 1
        while _meets(bounds, levels[level] + (leaf >> _FAN * level), box):
            if level == 0:
                found[hits] = leaf
                hits += 1
                break
            level -= 1
        leaf += 1 << _FAN * level
    return found[:hits]


@inlined
def _meets(bounds: NDArray[np.float64], node: int, box: Box) -> bool:
    return bool(
        bounds[node, 0] <= box[2]
        and bounds[node, 2] >= box[0]
        and bounds[node, 1] <= box[3]
        and bounds[node, 3] >= box[1]
        and bounds[node, 4] <= box[4] <= bounds[node, 5]
    )


@compiled
def _enclose_all(tree: Tree) -> None:
    for level in range(1, len(tree.levels) - 1):
        for node in range(tree.levels[level + 1] - tree.levels[level]):
            _enclose(tree, level, node)


@compiled
def _enclose_above(tree: Tree, leaf: int) -> None:
    """Let the nodes above a leaf enclose what they hold, as far up as that changes any."""
    node = leaf
    for level in range(1, len(tree.levels) - 1):
        node >>= _FAN
        if not _enclose(tree, level, node):
            break


@compiled
def _enclose(tree: Tree, level: int, node: int) -> bool:
    """Let a node, by its number in its level, enclose those below it; whether that changes it."""
    first = tree.levels[level - 1] + (node << _FAN)
    stop = min(first + (1 << _FAN), tree.levels[level])
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


def _along_curve(bounds: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Where the centres of boxes lie along the Morton curve, (n,)."""
    centres = (bounds[:, :2] + bounds[:, 2:]) / 2
    low = centres.min(axis=0)
    scale = (2**32 - 1) / np.maximum((centres.max(axis=0) - low).max(), 1e-9)
    x, y = _spread(((centres - low) * scale).astype(np.uint64)).T
    along: NDArray[np.uint64] = x | (y << np.uint64(1))
    return along


def _spread(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers of 32 bits with a zero after each bit."""
    for shift, mask in (
        (16, 0x0000FFFF0000FFFF),
        (8, 0x00FF00FF00FF00FF),
        (4, 0x0F0F0F0F0F0F0F0F),
        (2, 0x3333333333333333),
        (1, 0x5555555555555555),
    ):
        numbers = (numbers | (numbers << np.uint64(shift))) & np.uint64(mask)
    return numbers
