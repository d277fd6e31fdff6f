"""Non-maximum merging (NMM): a detection absorbs the detections that it overlaps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled
from tasks.merge.rtree import Tree, box_of, build, is_filled, remove, touching
from tasks.merge.shapes import Shapes
from tasks.merge.shapes.overlap import overlap_ratio
from tasks.request import Measure


def merge_groups(
    shapes: Shapes,
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    threshold: float,
    measure: Measure = Measure.IOU,
) -> NDArray[np.int64]:
    """Group detections by greedy non-maximum merging.

    In order of score, highest first, ties by lower index, each detection that is in no group yet
    becomes a keeper. Its group takes every detection of its label that is in no group yet and whose
    overlap with the keeper's own shape is above the threshold. So the keepers are those that NMS
    keeps, and each detection has exactly one keeper.

    Args:
        shapes: n detections.
        scores: (n,) higher is better.
        labels: (n,) detections of different labels are never grouped.
        threshold: 0 to 1.
        measure: Of the overlap.

    Returns:
        (n,) index of each detection's keeper; a keeper's own index for itself.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    keepers = np.arange(len(order))
    tree = build(shapes.bounds, labels)
    _group(order, shapes.arrays, tree, threshold, measure is Measure.IOS, keepers)
    return keepers


@compiled
def _group(  # noqa: PLR0917 - compiled functions take what they need in place
    order: NDArray[np.int64],
    shapes: Any,  # noqa: ANN401
    tree: Tree,
    threshold: float,
    of_smaller: bool,
    keepers: NDArray[np.int64],
) -> None:
    for keeper in order:
        leaf = tree.leaves[keeper]
        if not is_filled(tree, leaf):
            continue
        box = box_of(tree, leaf)
        remove(tree, leaf)
        for other in touching(tree, box):
            if overlap_ratio(shapes, keeper, tree.items[other], of_smaller) > threshold:
                keepers[tree.items[other]] = keeper
                remove(tree, other)
