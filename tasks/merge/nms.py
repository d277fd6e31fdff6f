"""Non-maximum suppression by its definition, over any number of boxes."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray


def nms(
    boxes: ArrayLike, scores: ArrayLike, classes: ArrayLike, iou_threshold: float
) -> NDArray[np.int64]:
    """Keep each box that no better kept box of its class overlaps by more than a threshold.

    Boxes are visited by score, highest first, ties by lower index; the visited box is kept and
    every later box of its class whose intersection over union with it is above the threshold is
    dropped (greedy NMS as in Felzenszwalb et al., PAMI 2010). All arithmetic is float64: in float32
    an image 200,000 pixels wide changes decisions.

    Args:
        boxes: (n, 4) x_min, y_min, x_max, y_max in pixels.
        scores: (n,) higher is better; any finite number.
        classes: (n,) labels of any comparable type; boxes of two classes never meet.
        iou_threshold: 0 to 1; two boxes of no area have IoU 0.

    Returns:
        Indices of the kept boxes, int64, in the order visited.
    """
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    labels = np.unique(np.asarray(classes), return_inverse=True)[1]
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    shapes = shapely.box(*corners.T)
    tree = shapely.STRtree(shapes)
    alive = np.ones(len(corners), bool)
    kept = []
    for index in order:
        if not alive[index]:
            continue
        kept.append(index)
        near = tree.query(shapes[index])
        near = near[alive[near] & (labels[near] == labels[index])]
        overlapping = _iou(corners[index], areas[index], corners[near], areas[near]) > iou_threshold
        alive[near[overlapping]] = False
        alive[index] = False
    return np.array(kept, np.int64)


def _iou(
    box: NDArray[np.float64],
    area: np.float64,
    others: NDArray[np.float64],
    areas: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Intersection over union of one box with (n, 4) others; 0 where the union has no area."""
    size = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    intersection = np.clip(size, 0, None).prod(axis=1)
    union = area + areas - intersection
    iou: NDArray[np.float64] = np.zeros_like(union)
    np.divide(intersection, union, out=iou, where=union > 0)
    return iou
