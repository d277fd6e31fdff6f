"""Soft non-maximum suppression: an overlap with a better detection lowers the score."""

from __future__ import annotations

import heapq
from math import exp
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled, inlined
from tasks.merge.rtree import Tree, box_of, build, remove, touching
from tasks.merge.shapes import Shapes
from tasks.merge.shapes.overlap import iou

Method = Literal["GAUSSIAN", "LINEAR"]


def soft_nms(
    shapes: Shapes,
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    iou_threshold: float,
    sigma: float,
    skip_below: float,
    method: Method = "GAUSSIAN",
) -> NDArray[np.float64]:
    """Lower the score of each detection for each better one of its label that overlaps it.

    Repeatedly, the detection with the highest current score is picked (ties: lower index), and the
    score of every detection not yet picked is multiplied by exp(−IoU² / sigma) (GAUSSIAN), or by
    1 − IoU if the IoU is above the threshold (LINEAR; at the threshold, the score stays). See Bodla
    et al., Soft-NMS, ICCV 2017. Shapes that share no area do not affect each other, so a score
    depends only on detections that a chain of overlaps leads to. The products are computed in
    float64 in the order of the picks.

    Args:
        shapes: n detections.
        scores: (n,) 0 or more.
        labels: (n,) detections of different labels are never compared.
        iou_threshold: For LINEAR.
        sigma: For GAUSSIAN, above 0.
        skip_below: Score below which a detection is dropped. Dropping it changes no other score,
            because it would be picked last.
        method: GAUSSIAN or LINEAR.

    Returns:
        (n,) new scores, NaN for dropped detections.
    """
    softened = np.array(scores, np.float64)
    tree = build(shapes.bounds, labels)
    linear = method == "LINEAR"
    _decay(shapes.arrays, tree, softened, iou_threshold, sigma, skip_below, linear)
    return softened


@compiled
def _decay(  # noqa: PLR0917 - compiled functions take what they need in place
    shapes: Any,  # noqa: ANN401
    tree: Tree,
    scores: NDArray[np.float64],
    iou_threshold: float,
    sigma: float,
    skip_below: float,
    linear: bool,
) -> None:
    """Lower scores in place.

    Scores only decrease, so a score in the queue is an upper bound. It is updated when it reaches
    the head of the queue.
    """
    queue = [(-scores[index], index) for index in range(len(scores))]
    heapq.heapify(queue)
    for index in range(len(scores)):
        _drop_below(tree, scores, index, skip_below)
    while len(queue) > 0:
        bound, index = queue[0]
        if np.isnan(scores[index]):
            heapq.heappop(queue)
        elif scores[index] < -bound:
            heapq.heapreplace(queue, (-scores[index], index))
        else:
            heapq.heappop(queue)
            leaf = tree.leaves[index]
            box = box_of(tree, leaf)
            remove(tree, leaf)
            for other in touching(tree, box):
                weaker = tree.items[other]
                ratio = iou(shapes, index, weaker)
                if not linear:
                    scores[weaker] *= exp(-(ratio * ratio) / sigma)
                elif ratio > iou_threshold:
                    scores[weaker] *= 1.0 - ratio
                _drop_below(tree, scores, weaker, skip_below)


@inlined
def _drop_below(tree: Tree, scores: NDArray[np.float64], index: int, least: float) -> None:
    if scores[index] < least:
        scores[index] = np.nan
        remove(tree, tree.leaves[index])
