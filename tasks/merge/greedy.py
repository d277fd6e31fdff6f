"""The compiled core of NMS: a hash grid of the detections that stay, asked by each that follows.

Detections that stay stand in levels by their width and height. A level's cells are as large as its
largest, or finer where more may stay in one place, so that one meets few cells, and few that it
does not overlap in them, whatever the sizes.

IoU > t says that the common width is over s · max(wᵢ, wⱼ), with s of
`Shapes.least_common_side`, and the height likewise. So |Δcentre| < (wᵢ + wⱼ) / 2 − s · max(wᵢ, wⱼ).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled, inlined
from tasks.merge.shapes.overlap import iou
from tasks.merge.verdicts import DEAD, KEPT, UNKNOWN

_OCTAVES = 3  # of box size in a level
_STEPS = 20  # of size by either side, below which one level holds all
_FINENESS = 64.0  # cells at most that the largest of a level spans
_ROUNDING = 1 + 1e-6
_EPSILON = 4 * float(np.finfo(np.float64).eps)


@compiled
def suppress(
    places: NDArray[np.int32],
    bounds: NDArray[np.float64],
    labels: NDArray[np.int64],
    verdicts: NDArray[np.uint8],
    shapes: Any,  # noqa: ANN401
    threshold: float,
    share: float,
    inside: NDArray[np.float64],
) -> None:
    """Decide detections by priority.

    Args:
        places: (m,) of the detections in `shapes`, the most important first.
        bounds: (m, 4) theirs, copied in that order, so that few stay in a processor's cache.
        labels: (m,) likewise.
        verdicts: (m,) likewise; to be written. UNKNOWN at first for those that something that is
            not here may block, KEPT for the others.
        shapes: The arrays of a `Shapes`; None where all are upright boxes.
        threshold: IoU over which one blocks another.
        share: Least share of its sides that either has in common with what it may block.
        inside: x_min, y_min, x_max, y_max of the centres that these are all of, and how many of
            its sides what blocks a detection may be away.
    """
    heads, after, sizes, firsts, beside, counts = _empty(len(places))
    finest = _finest(bounds)
    # the closer to 1, the more may stay in one place
    fineness = min(max(0.25 / max(1 - share, 1e-9), 1.0), _FINENESS)
    levels = 0
    for one in range(len(places)):
        x_min, y_min, x_max, y_max = _box(bounds, one)
        width, height = x_max - x_min, y_max - y_min
        if not (width > 0 and height > 0):
            continue  # what has no area overlaps nothing: its verdict is the first
        x, y = (x_min + x_max) * 0.5, (y_min + y_max) * 0.5
        verdict = verdicts[one]
        if _near(x, width * inside[4], inside[0], inside[2]):
            verdict = UNKNOWN
        if _near(y, height * inside[4], inside[1], inside[3]):
            verdict = UNKNOWN
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
            if (right - left + 1) * (bottom - top + 1) > counts[level] + 8:  # fewer than cells
                first = firsts[level]
                verdict = _meet(
                    one, first, verdict, beside, places, bounds, labels, verdicts, shapes, threshold
                )
            else:
                for row in range(math.floor(top), math.floor(bottom) + 1):
                    line = _line(level, labels[one], row)
                    for column in range(math.floor(left), math.floor(right) + 1):
                        first = heads[(line + column) & (len(heads) - 1)]
                        verdict = _meet(
                            one,
                            first,
                            verdict,
                            after,
                            places,
                            bounds,
                            labels,
                            verdicts,
                            shapes,
                            threshold,
                        )
                        if verdict == DEAD:
                            break
                    if verdict == DEAD:
                        break
            if verdict == DEAD:
                break
        verdicts[one] = verdict
        if verdict == DEAD:
            continue
        if own < 0:
            own = levels
            _add_level(sizes, own, width, height, finest, fineness)
            levels += 1
        line = _line(own, labels[one], math.floor(y * sizes[own, 5]))
        slot = (line + math.floor(x * sizes[own, 4])) & (len(heads) - 1)
        after[one], heads[slot] = heads[slot], one
        beside[one], firsts[own] = firsts[own], one
        counts[own] += 1


@inlined
def _meet(
    one: int,
    other: int,
    verdict: int,
    chain: NDArray[np.int32],
    places: NDArray[np.int32],
    bounds: NDArray[np.float64],
    labels: NDArray[np.int64],
    verdicts: NDArray[np.uint8],
    shapes: Any,  # noqa: ANN401
    threshold: float,
) -> int:
    """A verdict after those of a chain, from `other` on, had their say."""
    while other >= 0:
        if labels[other] == labels[one]:
            ratio = _box_iou(bounds, other, one)
            if shapes is not None and ratio > 0:
                ratio = iou(shapes, places[other], places[one])
            if ratio > threshold:
                verdict = DEAD if verdicts[other] == KEPT else UNKNOWN
                if verdict == DEAD:
                    break
        other = chain[other]
    return verdict


@inlined
def _box_iou(bounds: NDArray[np.float64], one: int, other: int) -> float:
    """Intersection over union of two boxes with an area."""
    a, b, c, d = _box(bounds, one)
    e, f, g, h = _box(bounds, other)
    width, height = min(c, g) - max(a, e), min(d, h) - max(b, f)
    if not (width > 0 and height > 0):
        return 0.0
    common = width * height
    return common / ((c - a) * (d - b) + (g - e) * (h - f) - common)


@inlined
def _box(bounds: NDArray[np.float64], one: int) -> tuple[float, float, float, float]:
    return bounds[one, 0], bounds[one, 1], bounds[one, 2], bounds[one, 3]


@inlined
def _near(middle: float, away: float, low: float, high: float) -> bool:
    return middle - away <= low or middle + away >= high


@inlined
def _reach(side: float, most: float, share: float, centre: float) -> float:
    """How far apart centres may be along an axis, for a side and others of at most `most`."""
    other = side if share >= 0.5 and most > side else most
    rounding = _EPSILON * (abs(centre) + most)  # of both centres, where boxes are that small
    return ((side + other) * 0.5 - share * max(side, other)) * _ROUNDING + rounding


@inlined
def _line(level: int, label: int, row: int) -> int:
    """Where the slots of a row of cells begin; neighbours in it are neighbours in memory."""
    return (row * 73856093) ^ (level * 19349663) ^ (label * 83492791)


@compiled
def _empty(
    count: int,
) -> tuple[
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.float64],
    NDArray[np.int32],
    NDArray[np.int32],
    NDArray[np.int64],
]:
    """A grid for a number of detections that stay, or may.

    Returns:
        heads: Last one that was put in each slot; −1 in an empty one.
        after: (count,) the one that was put in the same slot before; −1 where none.
        sizes: (levels, 6) least and most width, least and most height of a level; cells in
            a pixel across and down.
        firsts: (levels,) last one that was put in each level.
        beside: (count,) the one that was put in the same level before.
        counts: (levels,) how many are in each.
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
    """Describe a level by the first one that it is for."""
    for axis, side in enumerate((width, height)):
        step = max((math.frexp(side)[1] - 1) // _OCTAVES, finest)
        least = math.ldexp(1.0, step * _OCTAVES)
        sizes[level, 2 * axis] = 0.0 if step == finest else least
        sizes[level, 2 * axis + 1] = least * 2.0**_OCTAVES
        sizes[level, 4 + axis] = fineness / (least * 2.0**_OCTAVES)


@compiled
def _finest(bounds: NDArray[np.float64]) -> int:
    """The finest step of size that a level may have, beside the largest box."""
    largest = 0.0
    for one in range(len(bounds)):
        x_min, y_min, x_max, y_max = _box(bounds, one)
        largest = max(largest, x_max - x_min, y_max - y_min)
    return math.frexp(largest)[1] // _OCTAVES - _STEPS


@compiled
def copies(
    places: NDArray[np.int32],
    bounds: NDArray[np.float64],
    labels: NDArray[np.int64],
    doubtful: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.uint8]]:
    """Bounds, labels and first verdicts of the detections at places, as `suppress` takes them."""
    count = len(places)
    boxes, names = np.empty((count, 4)), np.empty(count, np.int64)
    verdicts = np.empty(count, np.uint8)
    for one in range(count):
        place = places[one]
        for side in range(4):
            boxes[one, side] = bounds[place, side]
        names[one] = labels[place]
        verdicts[one] = UNKNOWN if doubtful[place] else KEPT
    return boxes, names, verdicts
