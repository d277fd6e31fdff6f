"""Non-maximum suppression (NMS): exactly its definition, in near-linear time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from tasks.grid.tiles import EVERYWHERE
from tasks.merge.algorithms.nms_blocks import BLOCK_SIZE, blocks
from tasks.merge.algorithms.nms_greedy import gather, suppress
from tasks.merge.compiled import quickest
from tasks.merge.deferral import KEPT, UNDECIDED
from tasks.merge.shapes import Shapes
from tasks.request import Measure

_MIN_SHARE = 0.05  # below it, the box that suppresses another may be too far for blocks to help


def nms(
    boxes: ArrayLike, scores: ArrayLike, classes: ArrayLike, iou_threshold: float
) -> NDArray[np.int64]:
    """Keep each box that no kept box of its class with a higher score overlaps above a threshold.

    Boxes are visited by score, highest first, ties by lower index. The visited box is kept, and
    every later box of its class whose intersection over union with it is above the threshold is
    dropped (greedy NMS as in Felzenszwalb et al., PAMI 2010). All arithmetic is in float64: in
    float32, decisions change in images 200,000 pixels wide.

    Args:
        boxes: (n, 4) x_min, y_min, x_max, y_max in pixels, finite.
        scores: (n,) higher is better; any finite number.
        classes: (n,) integers or strings; boxes of different classes are never compared.
        iou_threshold: 0 to 1; a box without an area has IoU 0 with any other.

    Returns:
        Indices of the kept boxes, int64, ascending.
    """
    shapes = Shapes.boxes(boxes)
    doubtful = np.zeros(len(shapes), bool)
    labels = labels_of(classes)
    with quickest(len(shapes)):
        decisions = nms_decisions(shapes, np.asarray(scores), labels, iou_threshold, doubtful)
    return np.flatnonzero(decisions == KEPT)


def labels_of(classes: ArrayLike | pa.ChunkedArray) -> NDArray[np.int64]:
    """(n,) an integer for each class, the same for equal classes."""
    if isinstance(classes, pa.ChunkedArray):
        classes = classes.combine_chunks()
    else:
        given = np.asarray(classes)
        if given.dtype.kind in "iu" or not len(given):
            return given.astype(np.int64, copy=False)
        classes = pa.array(given)
    indices: NDArray[np.int64] = classes.dictionary_encode().indices.to_numpy().astype(np.int64)
    return indices


def nms_decisions(
    shapes: Shapes,
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    threshold: float,
    doubtful: NDArray[np.bool_],
    *,
    measure: Measure = Measure.IOU,
) -> NDArray[np.uint8]:
    """Decide detections by NMS, except those that detections which are not given may change.

    In order of priority, a detection that a KEPT one suppresses is DROPPED. Otherwise it is
    UNDECIDED if it is doubtful, or if an UNDECIDED one suppresses it. Otherwise it is KEPT.
    Deciding all UNDECIDED detections of all regions together gives the same result as deciding all
    detections at once.

    Blocks of an image, which fit in the processor's cache, are decided in the same way: first each
    block alone, then together all detections that another block may affect.

    Args:
        shapes: n detections.
        scores: (n,) higher is better.
        labels: (n,) int64; detections of different labels are never compared.
        threshold: Overlap above which a detection suppresses another, 0 to 1.
        doubtful: (n,) True for detections that a detection which is not given may suppress.
        measure: Of the overlap.

    Returns:
        (n,) KEPT, DROPPED or UNDECIDED, see `tasks.merge.deferral`.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels, np.int64)
    of_smaller = measure is Measure.IOS
    share = shapes.least_common_side(threshold, measure)
    parts = None if shapes.upright else shapes.arrays
    decisions = np.full(len(shapes), UNDECIDED, np.uint8)

    def decide(indices: NDArray[np.int32], block: NDArray[np.float64], reach: float) -> None:
        indices = _by_priority(indices, scores)
        columns = gather(indices, shapes.bounds, labels, doubtful)
        area = np.append(block, reach)
        suppress(indices, *columns, parts, float(threshold), of_smaller, share, area)
        decisions[indices] = columns[-1]

    if len(shapes) > BLOCK_SIZE and share >= _MIN_SHARE:
        reach = max(1 - share, (1 / share - 1) / 2) * (1 + 1e-6)
        for indices, block in blocks(shapes.bounds, reach):
            decide(indices, block, reach)
    decide(np.flatnonzero(decisions == UNDECIDED).astype(np.int32), EVERYWHERE, 0.0)
    return decisions


def _by_priority(indices: NDArray[np.int32], scores: NDArray[np.float64]) -> NDArray[np.int32]:
    """Ascending indices sorted by score, highest first, ties by index."""
    keys = -scores[indices]
    order = np.argsort(keys)
    descending = keys[order]
    if (descending[1:] == descending[:-1]).any():
        order = np.argsort(keys, kind="stable")  # slower, so only if scores are equal
    return indices[order]
