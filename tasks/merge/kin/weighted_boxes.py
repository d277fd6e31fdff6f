"""Weighted boxes fusion: the box of an object is the mean of all boxes that were seen of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled
from tasks.merge.shapes import Shapes
from tasks.merge.shapes.overlap import iou
from tasks.merge.tree import Tree, plant, put, touching


def fuse(
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    iou_threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Fuse the boxes of one model (Solovyev et al., Weighted boxes fusion, 2021).

    By score, highest first, ties by lower index, each box joins the fused box of its label that it
    overlaps most, if the IoU is over the threshold (ties: the one that was founded first), or else
    founds one. It joins none whose founder it does not touch: a mean may lie where no member is, so
    else boxes that nothing links could change each other's, and no part of an image were ever done.
    A fused box is the mean of its members, weighted by score, and so is what later ones are
    compared with; its score is their plain mean. Where all scores are 0, the founder's box
    stays.

    Args:
        boxes: (n, 4) x_min, y_min, x_max, y_max in pixels.
        scores: (n,) 0 or more.
        labels: (n,)
        iou_threshold: 0 to 1.

    Returns:
        (n,) place of each box's founder, which is a founder's own; and (n, 4) boxes and (n,)
        scores, the fused ones at the places of founders, as they were at the others.
    """
    shapes = Shapes.boxes(np.array(boxes, np.float64))
    weights = np.array(scores, np.float64)
    fused = _Fused(shapes.arrays, weights, np.ones(len(weights)), shapes.bounds * weights[:, None])
    order = np.argsort(-weights, kind="stable")
    owners = np.arange(len(order))
    _join(
        order,
        shapes.bounds.copy(),
        np.asarray(labels, np.int64),
        plant(shapes.bounds, labels),
        iou_threshold,
        fused,
        owners,
    )
    return owners, shapes.bounds, fused.weights / fused.counts


class _Fused(NamedTuple):
    """What was fused so far, at the places of founders; what follows stands there as it is.

    Attributes:
        shapes: The arrays of a `Shapes`, n boxes.
        weights: (n,) sum of the members' scores.
        counts: (n,) members.
        sums: (n, 4) sum of the members' boxes, each by its score.
    """

    shapes: Any
    weights: NDArray[np.float64]
    counts: NDArray[np.float64]
    sums: NDArray[np.float64]


@compiled
def _join(  # noqa: PLR0917 - compiled functions take what they need in place
    order: NDArray[np.int64],
    boxes: NDArray[np.float64],
    labels: NDArray[np.int64],
    tree: Tree,
    iou_threshold: float,
    fused: _Fused,
    owners: NDArray[np.int64],
) -> None:
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    for place in order:
        founder = _most_overlapped(place, boxes, labels, ranks, tree, iou_threshold, fused)
        if founder >= 0:
            owners[place] = founder
            _add(fused, founder, place)
        else:
            founder = place
        box = fused.shapes[0][founder]
        put(tree, tree.leaves[founder], (box[0], box[1], box[2], box[3], float(labels[founder])))


@compiled
def _most_overlapped(  # noqa: PLR0917 - compiled functions take what they need in place
    place: int,
    boxes: NDArray[np.float64],
    labels: NDArray[np.int64],
    ranks: NDArray[np.int64],
    tree: Tree,
    iou_threshold: float,
    fused: _Fused,
) -> int:
    """The founder of the fused box that a box overlaps most, over the threshold; −1 if none."""
    own = fused.shapes[0][place]
    box = (own[0], own[1], own[2], own[3], float(labels[place]))
    best, most = -1, iou_threshold
    for leaf in touching(tree, box):
        founder = tree.places[leaf]
        if not _touch(boxes[place], boxes[founder]):
            continue
        common = iou(fused.shapes, place, founder)
        if common > most or (common == most and best >= 0 and ranks[founder] < ranks[best]):
            best, most = founder, common
    return best


@compiled
def _touch(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    across = one[0] <= other[2] and other[0] <= one[2]
    return bool(across and one[1] <= other[3] and other[1] <= one[3])


@compiled
def _add(fused: _Fused, founder: int, place: int) -> None:
    """Add a box, which founded nothing, to a fused one."""
    bounds, areas = fused.shapes[0], fused.shapes[1]
    fused.weights[founder] += fused.weights[place]
    fused.counts[founder] += 1
    if not fused.weights[founder] > 0:
        return
    for axis in range(4):
        fused.sums[founder, axis] += fused.sums[place, axis]
        bounds[founder, axis] = fused.sums[founder, axis] / fused.weights[founder]
    width = bounds[founder, 2] - bounds[founder, 0]
    areas[founder] = width * (bounds[founder, 3] - bounds[founder, 1])
