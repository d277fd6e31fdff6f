"""Weighted boxes fusion (WBF): the box of an object is the weighted mean of all its boxes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled
from tasks.merge.rtree import Tree, build_empty, put, touching
from tasks.merge.shapes import Shapes
from tasks.merge.shapes.overlap import iou


def fuse(
    boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    iou_threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Fuse the boxes of one model (Solovyev et al., Weighted boxes fusion, 2021).

    In order of score, highest first, ties by lower index, each box joins the fused box of its label
    with which its IoU is highest, if that is above the threshold (ties: the fused box founded
    first). Otherwise it founds a new fused box. A fused box is the mean of its members, weighted by
    score, and later boxes are compared with that mean. Its score is the plain mean of its members'
    scores. If all scores are 0, the founder's box stays.

    Unlike in the paper, a box never joins a fused box whose founder it does not touch. A mean may
    lie away from all its members, so without that rule boxes that no chain of overlaps connects
    could affect each other, and no region could decide anything alone.

    Args:
        boxes: (n, 4) x_min, y_min, x_max, y_max in pixels.
        scores: (n,) 0 or more.
        labels: (n,) boxes of different labels are never fused.
        iou_threshold: 0 to 1.

    Returns:
        (n,) index of each box's founder, a founder's own index for itself; and (n, 4) boxes and
        (n,) scores, fused at the indices of founders and unchanged at all others.
    """
    shapes = Shapes.boxes(np.array(boxes, np.float64))
    weights = np.array(scores, np.float64)
    fused = _Fused(shapes.arrays, weights, np.ones(len(weights)), shapes.bounds * weights[:, None])
    order = np.argsort(-weights, kind="stable")
    founders = np.arange(len(order))
    _fuse(
        order,
        shapes.bounds.copy(),
        np.asarray(labels, np.int64),
        build_empty(shapes.bounds, labels),
        iou_threshold,
        fused,
        founders,
    )
    return founders, shapes.bounds, fused.weights / fused.counts


class _Fused(NamedTuple):
    """The fused boxes, at the indices of their founders; other boxes count as fused boxes of one.

    Attributes:
        shapes: The arrays of a `Shapes`, n boxes.
        weights: (n,) sum of the members' scores.
        counts: (n,) number of members.
        sums: (n, 4) sum of the members' boxes, each multiplied by its score.
    """

    shapes: Any
    weights: NDArray[np.float64]
    counts: NDArray[np.float64]
    sums: NDArray[np.float64]


@compiled
def _fuse(  # noqa: PLR0917 - compiled functions take what they need in place
    order: NDArray[np.int64],
    boxes: NDArray[np.float64],
    labels: NDArray[np.int64],
    tree: Tree,
    iou_threshold: float,
    fused: _Fused,
    founders: NDArray[np.int64],
) -> None:
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order))
    for index in order:
        founder = _best_match(index, boxes, labels, ranks, tree, iou_threshold, fused)
        if founder >= 0:
            founders[index] = founder
            _add(fused, founder, index)
        else:
            founder = index
        box = fused.shapes[0][founder]
        put(tree, tree.leaves[founder], (box[0], box[1], box[2], box[3], float(labels[founder])))


@compiled
def _best_match(  # noqa: PLR0917 - compiled functions take what they need in place
    index: int,
    boxes: NDArray[np.float64],
    labels: NDArray[np.int64],
    ranks: NDArray[np.int64],
    tree: Tree,
    iou_threshold: float,
    fused: _Fused,
) -> int:
    """The founder of the fused box with the highest IoU above the threshold; −1 if there is none.

    Args:
        index: Index of the box.
        boxes: (n, 4) boxes of the detections, before any was fused.
        labels: (n,) boxes of different labels are never fused.
        ranks: (n,) position of each box in the order of scores.
        tree: The fused boxes.
        iou_threshold: 0 to 1.
        fused: The fused boxes.
    """
    own = fused.shapes[0][index]
    box = (own[0], own[1], own[2], own[3], float(labels[index]))
    best, highest = -1, iou_threshold
    for leaf in touching(tree, box):
        founder = tree.items[leaf]
        if not _touch(boxes[index], boxes[founder]):
            continue
        ratio = iou(fused.shapes, index, founder)
        if ratio > highest or (ratio == highest and best >= 0 and ranks[founder] < ranks[best]):
            best, highest = founder, ratio
    return best


@compiled
def _touch(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    across = one[0] <= other[2] and other[0] <= one[2]
    return bool(across and one[1] <= other[3] and other[1] <= one[3])


@compiled
def _add(fused: _Fused, founder: int, index: int) -> None:
    """Add a box that is no founder to the fused box of a founder."""
    bounds, areas = fused.shapes[0], fused.shapes[1]
    fused.weights[founder] += fused.weights[index]
    fused.counts[founder] += 1
    if not fused.weights[founder] > 0:
        return
    for axis in range(4):
        fused.sums[founder, axis] += fused.sums[index, axis]
        bounds[founder, axis] = fused.sums[founder, axis] / fused.weights[founder]
    width = bounds[founder, 2] - bounds[founder, 0]
    areas[founder] = width * (bounds[founder, 3] - bounds[founder, 1])
