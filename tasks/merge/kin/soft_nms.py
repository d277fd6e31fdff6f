"""Soft non-maximum suppression: what a better detection overlaps is trusted less, not dropped."""

from __future__ import annotations

import heapq
from math import exp
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled, inlined
from tasks.merge.shapes import Shapes
from tasks.merge.shapes.overlap import iou
from tasks.merge.tree import Tree, box_of, plant_all, remove, touching

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
    """Scores, lowered for each better detection of the same label that overlaps.

    Again and again the detection with the highest current score is picked (ties: lower index), and
    the score of every one not yet picked is multiplied, GAUSSIAN, by exp(−IoU² / sigma), or,
    LINEAR, by 1 − IoU where the IoU is over the threshold; at the threshold it is left alone
    (Bodla et al., Soft-NMS, ICCV 2017). Two shapes with no area in common never meet, so a score
    depends on those alone that a chain of overlaps leads to. The products are float64, made in the
    order of the picks.

    Args:
        shapes: n detections.
        scores: (n,) 0 or more.
        labels: (n,)
        iou_threshold: Of LINEAR.
        sigma: Of GAUSSIAN, over 0.
        skip_below: Score below which a detection is dropped; those have no say either, for they
            would be picked last.
        method: Which of the two.

    Returns:
        (n,) the new scores, NaN for a detection that is dropped.
    """
    softened = np.array(scores, np.float64)
    tree = plant_all(shapes.bounds, labels)
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
    """Scores only fall, so those in the queue are bounds, corrected when they come to its head."""
    queue = [(-scores[place], place) for place in range(len(scores))]
    heapq.heapify(queue)
    for place in range(len(scores)):
        _drop_below(tree, scores, place, skip_below)
    while len(queue) > 0:
        bound, place = queue[0]
        if np.isnan(scores[place]):
            heapq.heappop(queue)
        elif scores[place] < -bound:
            heapq.heapreplace(queue, (-scores[place], place))
        else:
            heapq.heappop(queue)
            leaf = tree.leaves[place]
            box = box_of(tree, leaf)
            remove(tree, leaf)
            for other in touching(tree, box):
                weaker = tree.places[other]
                common = iou(shapes, place, weaker)
                if not linear:
                    scores[weaker] *= exp(-(common * common) / sigma)
                elif common > iou_threshold:
                    scores[weaker] *= 1.0 - common
                _drop_below(tree, scores, weaker, skip_below)


@inlined
def _drop_below(tree: Tree, scores: NDArray[np.float64], place: int, least: float) -> None:
    if scores[place] < least:
        scores[place] = np.nan
        remove(tree, tree.leaves[place])
