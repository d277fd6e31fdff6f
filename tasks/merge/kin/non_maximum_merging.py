"""Non-maximum merging: a detection takes in what it overlaps, and grows by it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled
from tasks.merge.shapes import Shapes
from tasks.merge.shapes.overlap import iou
from tasks.merge.tree import Tree, box_of, holds, plant_all, remove, touching


def merge_groups(
    shapes: Shapes,
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    iou_threshold: float,
) -> NDArray[np.int64]:
    """Who takes whom: greedy non-maximum merging.

    By score, highest first, ties by lower index, each detection that is not taken yet is a keeper,
    and takes every other one of its label whose IoU with the keeper's own shape is over the
    threshold. So the keepers are those of NMS, and each detection has exactly one.

    Args:
        shapes: n detections.
        scores: (n,)
        labels: (n,)
        iou_threshold: 0 to 1.

    Returns:
        (n,) place of each detection's keeper, which is a keeper's own.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    owners = np.arange(len(order))
    _take(order, shapes.arrays, plant_all(shapes.bounds, labels), iou_threshold, owners)
    return owners


@compiled
def _take(
    order: NDArray[np.int64],
    shapes: Any,  # noqa: ANN401
    tree: Tree,
    iou_threshold: float,
    owners: NDArray[np.int64],
) -> None:
    for keeper in order:
        leaf = tree.leaves[keeper]
        if not holds(tree, leaf):
            continue
        box = box_of(tree, leaf)
        remove(tree, leaf)
        for other in touching(tree, box):
            if iou(shapes, keeper, tree.places[other]) > iou_threshold:
                owners[tree.places[other]] = keeper
                remove(tree, other)
