"""NMS: the compiled core, a hash grid of the detections that are not dropped.

The detections in the grid are divided into levels by width and height. The cells of a level are as
large as its largest detection, or smaller for high thresholds, at which more detections stay close
to each other. So a detection has to search few cells, which hold few detections that do not overlap
it, for any mix of sizes.

IoU > t implies that the shared width is above s · max(wᵢ, wⱼ), with s from
`Shapes.least_common_side`, and the height likewise. So |Δcentre| < (wᵢ + wⱼ) / 2 − s · max(wᵢ, wⱼ).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled, inlined
from tasks.merge.deferral import DROPPED, KEPT, UNDECIDED
from tasks.merge.shapes.overlap import overlap_ratio

_OCTAVES = 3  # of box size per level
_STEPS = 20  # levels along either side; smaller boxes are all in the last one
_MAX_FINENESS = 64.0  # most cells that the largest box of a level spans along an axis
_ROUNDING = 1 + 1e-6
_EPSILON = 4 * float(np.finfo(np.float64).eps)


@compiled
def suppress(
    indices: NDArray[np.int32],
    bounds: NDArray[np.float64],
    labels: NDArray[np.int64],
    decisions: NDArray[np.uint8],
    shapes: Any,  # noqa: ANN401
    threshold: float,
    of_smaller: bool,
    share: float,
    block: NDArray[np.float64],
) -> None:
    """Decide detections in order of priority.

    Args:
        indices: (m,) of the detections in `shapes`, highest priority first.
        bounds: (m, 4) their bounds, copied in that order, to be contiguous in the cache.
        labels: (m,) likewise.
        decisions: (m,) likewise; overwritten. At first, UNDECIDED for detections that a detection
            which is not given may suppress, KEPT for the others.
        shapes: The arrays of a `Shapes`; None if all are upright boxes.
        threshold: Overlap above which a detection suppresses another.
        of_smaller: Whether overlap is intersection over the smaller one; otherwise it is IoU.
        share: Lower bound on the share of its sides that a detection has in common with one that it
            suppresses.
        block: (5,) x_min, y_min, x_max, y_max of an area: all detections with their centre in it
            are given. The fifth value is the greatest distance from a detection, in units of its
            sides, at which the centre of one that suppresses it can lie.
    """
    heads, cell_next, sizes, level_heads, level_next, counts = _empty_grid(len(indices))
    finest = _finest(bounds)
    # the closer the share is to 1, the more detections stay close to each other
    fineness = min(max(0.25 / max(1 - share, 1e-9), 1.0), _MAX_FINENESS)
    levels = 0
    for one in range(len(indices)):
        x_min, y_min, x_max, y_max = _box(bounds, one)
        width, height = x_max - x_min, y_max - y_min
        if not (width > 0 and height > 0):
            continue  # without an area it overlaps nothing
        x, y = (x_min + x_max) * 0.5, (y_min + y_max) * 0.5
        decision = decisions[one]
        if _reaches_out(x, width * block[4], block[0], block[2]):
            decision = UNDECIDED
        if _reaches_out(y, height * block[4], block[1], block[3]):
            decision = UNDECIDED
        own = -1
        for level in range(levels):
            least_width, most_width = sizes[level, 0], sizes[level, 1]
            least_height, most_height = sizes[level, 2], sizes[level, 3]
            if least_width <= width < most_width and least_height <= height < most_height:
                own = level
            if most_width <= share * width or least_width * share >= width:
                continue
            if most_height <= share * height or least_height * share >= height:
                continue
            reach = _reach(width, most_width, share, x)
            left, right = (x - reach) * sizes[level, 4], (x + reach) * sizes[level, 4]
            reach = _reach(height, most_height, share, y)
            top, bottom = (y - reach) * sizes[level, 5], (y + reach) * sizes[level, 5]
            if (right - left + 1) * (bottom - top + 1) > counts[level] + 8:  # more cells than boxes
                first = level_heads[level]
                decision = _compare(
                    one,
                    first,
                    decision,
                    level_next,
                    indices,
                    bounds,
                    labels,
                    decisions,
                    shapes,
                    threshold,
                    of_smaller,
                )
            else:
                for row in range(math.floor(top), math.floor(bottom) + 1):
                    line = _row_hash(level, labels[one], row)
                    for column in range(math.floor(left), math.floor(right) + 1):
                        first = heads[(line + column) & (len(heads) - 1)]
                        decision = _compare(
                            one,
                            first,
                            decision,
                            cell_next,
                            indices,
                            bounds,
                            labels,
                            decisions,
                            shapes,
                            threshold,
                            of_smaller,
                        )
                        if decision == DROPPED:
                            break
                    if decision == DROPPED:
                        break
            if decision == DROPPED:
                break
        decisions[one] = decision
        if decision == DROPPED:
            continue
        if own < 0:
            own = levels
            _add_level(sizes, own, width, height, finest, fineness)
            levels += 1
        line = _row_hash(own, labels[one], math.floor(y * sizes[own, 5]))
        slot = (line + math.floor(x * sizes[own, 4])) & (len(heads) - 1)
        cell_next[one], heads[slot] = heads[slot], one
        level_next[one], level_heads[own] = level_heads[own], one
        counts[own] += 1


@inlined
def _compare(
    one: int,
    other: int,
    decision: int,
    following: NDArray[np.int32],
    indices: NDArray[np.int32],
    bounds: NDArray[np.float64],
    labels: NDArray[np.int64],
    decisions: NDArray[np.uint8],
    shapes: Any,  # noqa: ANN401
    threshold: float,
    of_smaller: bool,
) -> int:
    """The decision on `one` after comparing it with a linked list that starts at `other`."""
    while other >= 0:
        if labels[other] == labels[one]:
            ratio = _box_ratio(bounds, other, one, of_smaller)
            if shapes is not None and ratio > 0:
                ratio = overlap_ratio(shapes, indices[other], indices[one], of_smaller)
            if ratio > threshold:
                decision = DROPPED if decisions[other] == KEPT else UNDECIDED
                if decision == DROPPED:
                    break
        other = following[other]
    return decision


@inlined
def _box_ratio(bounds: NDArray[np.float64], one: int, other: int, of_smaller: bool) -> float:
    """Intersection of two boxes with an area over their union, or over the smaller of both."""
    a, b, c, d = _box(bounds, one)
    e, f, g, h = _box(bounds, other)
    width, height = min(c, g) - max(a, e), min(d, h) - max(b, f)
    if not (width > 0 and height > 0):
        return 0.0
    common, first, second = width * height, (c - a) * (d - b), (g - e) * (h - f)
    return common / (min(first, second) if of_smaller else first + second - common)


@inlined
def _box(bounds: NDArray[np.float64], one: int) -> tuple[float, float, float, float]:
    return bounds[one, 0], bounds[one, 1], bounds[one, 2], bounds[one, 3]


@inlined
def _reaches_out(centre: float, reach: float, low: float, high: float) -> bool:
    return centre - reach <= low or centre + reach >= high


@inlined
def _reach(side: float, most: float, share: float, centre: float) -> float:
    """How far apart two centres may be along an axis, for a side and others of at most `most`."""
    other = side if share >= 0.5 and most > side else most
    rounding = _EPSILON * (abs(centre) + most)  # of both centres; matters for the smallest boxes
    return ((side + other) * 0.5 - share * max(side, other)) * _ROUNDING + rounding


@inlined
def _row_hash(level: int, label: int, row: int) -> int:
    """First slot of a row of cells; neighbouring cells of a row are neighbours in memory."""
    return (row * 73856093) ^ (level * 19349663) ^ (int(label) * 83492791)


@compiled
def _empty_grid(
    count: int,
) -> tuple[
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.float64],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int64],
]:
    """An empty grid with room for `count` detections, in linked lists by cell and by level.

    Returns:
        heads: Detection added last to each slot of cells; −1 if the slot is empty.
        cell_next: (count,) detection added to the same slot before each; −1 if there is none.
        sizes: (levels, 6) least and greatest width, least and greatest height of a level; cells
            per pixel across and down.
        level_heads: (levels,) detection added last to each level.
        level_next: (count,) detection added to the same level before each.
        counts: (levels,) detections in each level.
    """
    slots = 4
    while slots < 2 * count:
        slots *= 2
    levels = (_STEPS + 2) ** 2
    return (
        np.full(slots, -1, np.int32),
        np.empty(count, np.int32),
        np.empty((levels, 6)),
        np.full(levels, -1, np.int32),
        np.empty(count, np.int32),
        np.zeros(levels, np.int64),
    )


@compiled
def _add_level(
    sizes: NDArray[np.float64],
    level: int,
    width: float,
    height: float,
    finest: int,
    fineness: float,
) -> None:
    """Set the sizes of the level for a width and height."""
    for axis, side in enumerate((width, height)):
        step = max((math.frexp(side)[1] - 1) // _OCTAVES, finest)
        least = math.ldexp(1.0, step * _OCTAVES)
        sizes[level, 2 * axis] = 0.0 if step == finest else least
        sizes[level, 2 * axis + 1] = least * 2.0**_OCTAVES
        sizes[level, 4 + axis] = fineness / (least * 2.0**_OCTAVES)


@compiled
def _finest(bounds: NDArray[np.float64]) -> int:
    """The exponent of the smallest size class, from the largest box."""
    largest = 0.0
    for one in range(len(bounds)):
        x_min, y_min, x_max, y_max = _box(bounds, one)
        largest = max(largest, x_max - x_min, y_max - y_min)
    return math.frexp(largest)[1] // _OCTAVES - _STEPS


@compiled
def gather(
    indices: NDArray[np.int32],
    bounds: NDArray[np.float64],
    labels: NDArray[np.int64],
    doubtful: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.uint8]]:
    """Bounds, labels and initial decisions of the detections at some indices, for `suppress`."""
    count = len(indices)
    boxes, own_labels = np.empty((count, 4)), np.empty(count, np.int64)
    decisions = np.empty(count, np.uint8)
    for one in range(count):
        index = indices[one]
        for side in range(4):
            boxes[one, side] = bounds[index, side]
        own_labels[one] = labels[index]
        decisions[one] = UNDECIDED if doubtful[index] else KEPT
    return boxes, own_labels, decisions
