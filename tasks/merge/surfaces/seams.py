"""Which surfaces of different tiles are one object: those that the tiles saw alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from tasks.grid.tiles import Grid
from tasks.merge.compiled import compiled, inlined
from tasks.merge.groups import first_of, firsts, unite
from tasks.merge.surfaces.grounds import Extents, Pieces, Surfaces, pieces, steps

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_ASKED = 64
"""Pieces whose neighbours are looked up at a time: bounds the pairs that are held of a pile."""

_COMPARED = 1024
"""Pairs that are compared at first; what they join need not be compared any more."""


def join(surfaces: Surfaces, count: int, grid: Grid, iou_threshold: float) -> Integers:
    """Groups of detections that show one object.

    Two tiles looked at the ground that their windows share, so there they saw the same. Detections
    of one label are one object if on the common ground of their tiles a connected piece of the one
    and a connected piece of the other have an intersection over union above a threshold: of areas,
    or of lengths where the tiles only touch and the common ground is a line. Detections of one
    tile are one object only through another tile's.

    Pieces are compared, not all that two detections have there: of a U-shaped object, a tile that
    sees only the arms has two detections, each but half of what its neighbour sees on that ground.

    Args:
        surfaces: The parts of the detections.
        count: How many detections there are.
        grid: The tiles.
        iou_threshold: 0 to 1.

    Returns:
        (n,) for each detection the first of its group.
    """
    groups = np.arange(count)
    for step in steps(grid):
        here = pieces(surfaces, grid, step)
        there = pieces(surfaces, grid, (-step[0], -step[1]))
        tree = shapely.STRtree(there.shapes)
        for start in range(0, len(here), _ASKED):
            pairs = tree.query(here.shapes[start : start + _ASKED])
            pairs[0] += start
            may = _may_be_alike(here.extents, there.extents, pairs, groups, iou_threshold)
            _unite_alike(here, there, pairs[:, may], groups, iou_threshold)
    return firsts(groups, np.arange(count))


@compiled
def _may_be_alike(
    here: Extents, there: Extents, pairs: Integers, groups: Integers, iou_threshold: float
) -> NDArray[np.bool_]:
    """Which of (2, k) pairs of pieces lie on one ground, and may be alike for all that bounds tell.

    Of detections that are in one group already, none.
    """
    may = np.zeros(pairs.shape[1], np.bool_)
    for pair in range(pairs.shape[1]):
        one, other = pairs[0, pair], pairs[1, pair]
        if (
            here.grounds[one] == there.grounds[other]
            and here.labels[one] == there.labels[other]
            and first_of(groups, here.rows[one]) != first_of(groups, there.rows[other])
        ):
            shared = _share(here, there, one, other)
            may[pair] = _iou(here.sizes[one], there.sizes[other], shared) > iou_threshold
    return may


def _unite_alike(
    here: Pieces, there: Pieces, pairs: Integers, groups: Integers, iou_threshold: float
) -> None:
    """Make one group of the detections of each of (2, k) pairs of pieces that are alike.

    Of a pile that is all alike, a few pairs from anywhere unite nearly all; the others are spared.
    """
    pairs = pairs[:, np.random.default_rng(0).permutation(pairs.shape[1])]
    compared = _COMPARED
    while pairs.shape[1]:
        ones, others = pairs[:, :compared]
        alike = _ious(here, there, ones, others) > iou_threshold
        unite(groups, here.extents.rows[ones[alike]], there.extents.rows[others[alike]])
        ones, others = pairs = pairs[:, compared:]
        one, other = here.extents.rows[ones], there.extents.rows[others]
        pairs = pairs[:, firsts(groups, one) != firsts(groups, other)]
        compared *= 2


def _ious(here: Pieces, there: Pieces, ones: Integers, others: Integers) -> Floats:
    """Intersection over union of pairs of pieces."""
    shared = _bounds_share(here.extents, there.extents, ones, others)
    uneven = ~(here.extents.full[ones] & there.extents.full[others])
    one, other = here.shapes[ones[uneven]], there.shapes[others[uneven]]
    shared[uneven] = shapely.area(shapely.intersection(one, other))
    ious: Floats = _iou(here.extents.sizes[ones], there.extents.sizes[others], shared)
    return ious


@compiled
def _iou(one: Any, other: Any, shared: Any) -> Any:  # noqa: ANN401 - numbers, or arrays of them
    shared = np.minimum(shared, np.minimum(one, other))
    return shared / (one + other - shared)


@compiled
def _bounds_share(here: Extents, there: Extents, ones: Integers, others: Integers) -> Floats:
    """What the bounds of pairs of pieces on one ground share, px²; px of lines."""
    shares = np.empty(len(ones))
    for pair in range(len(ones)):
        shares[pair] = _share(here, there, ones[pair], others[pair])
    return shares


@inlined
def _share(here: Extents, there: Extents, one: int, other: int) -> float:
    a, b = here.bounds[one], there.bounds[other]
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    share: float = max(width, height) if here.lines[one] else width * height
    return share
