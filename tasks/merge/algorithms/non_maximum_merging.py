"""Non-maximum merging (NMM): a detection absorbs the detections that it overlaps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled
from tasks.merge.rtree import Tree, box_of, build, is_filled, remove, touching
from tasks.merge.shapes import Shapes
from tasks.merge.shapes.overlap import iou


def merge_groups(
    shapes: Shapes,
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    iou_threshold: float,
) -> NDArray[np.int64]:
    """Group detections by greedy non-maximum merging.

    In order of score, highest first, ties by lower index, each detection that is in no group yet
    becomes a keeper. Its group takes every detection of its label that is in no group yet and whose
    IoU with the keeper's own shape is above the threshold. So the keepers are those that NMS keeps,
    and each detection has exactly one keeper.

    Args:
        shapes: n detections.
        scores: (n,) higher is better.
        labels: (n,) detections of different labels are never grouped.
        iou_threshold: 0 to 1.

    Returns:
        (n,) index of each detection's keeper; a keeper's own index for itself.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    keepers = np.arange(len(order))
    _group(order, shapes.arrays, build(shapes.bounds, labels), iou_threshold, keepers)
    return keepers


@compiled
def _group(
    order: NDArray[np.int64],
    shapes: Any,  # noqa: ANN401
    tree: Tree,
    iou_threshold: float,
    keepers: NDArray[np.int64],
) -> None:
    for keeper in order:
        leaf = tree.leaves[keeper]
        if not is_filled(tree, leaf):
            continue
        box = box_of(tree, leaf)
        remove(tree, leaf)
        for other in touching(tree, box):
            if iou(shapes, keeper, tree.items[other]) > iou_threshold:
                keepers[tree.items[other]] = keeper
                remove(tree, other)
