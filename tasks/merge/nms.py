"""Non-maximum suppression: equal to its definition in every decision, in near-linear time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from tasks.grid.tiles import EVERYWHERE
from tasks.merge.blocks import MANY, blocks
from tasks.merge.greedy import copies, suppress
from tasks.merge.shapes import Shapes
from tasks.merge.verdicts import KEPT, UNKNOWN

_LEAST = 0.05  # threshold below which what blocks a box may be too far away for blocks


def nms(
    boxes: ArrayLike, scores: ArrayLike, classes: ArrayLike, iou_threshold: float
) -> NDArray[np.int64]:
    """Keep each box that no better kept box of its class overlaps by more than a threshold.

    Boxes are visited by score, highest first, ties by lower index; the visited box is kept and
    every later box of its class whose intersection over union with it is above the threshold is
    dropped (greedy NMS as in Felzenszwalb et al., PAMI 2010). All arithmetic is float64: in float32
    an image 200,000 pixels wide changes decisions.

    Args:
        boxes: (n, 4) x_min, y_min, x_max, y_max in pixels, finite.
        scores: (n,) higher is better; any finite number.
        classes: (n,) integers or strings; boxes of two classes never meet.
        iou_threshold: 0 to 1; a box of no area has IoU 0 with any other.

    Returns:
        Indices of the kept boxes, int64, ascending.
    """
    shapes = Shapes.boxes(boxes)
    none = np.zeros(len(shapes), bool)
    verdicts = nms_verdicts(shapes, np.asarray(scores), labels_of(classes), iou_threshold, none)
    return np.flatnonzero(verdicts == KEPT)


def labels_of(classes: ArrayLike | pa.ChunkedArray) -> NDArray[np.int64]:
    """Classes as integers, (n,): one for each, whichever."""
    if isinstance(classes, pa.ChunkedArray):
        classes = classes.combine_chunks()
    else:
        given = np.asarray(classes)
        if given.dtype.kind in "iu" or not len(given):
            return given.astype(np.int64, copy=False)
        classes = pa.array(given)
    indices: NDArray[np.int64] = classes.dictionary_encode().indices.to_numpy().astype(np.int64)
    return indices


def nms_verdicts(
    shapes: Shapes,
    scores: NDArray[np.float64],
    labels: NDArray[np.int64],
    iou_threshold: float,
    doubtful: NDArray[np.bool_],
) -> NDArray[np.uint8]:
    """What NMS surely makes of detections, whatever there is beside the doubtful ones.

    In priority, a detection that a kept one blocks is DEAD; else one that is doubtful, or that an
    unknown one blocks, is UNKNOWN; else it is KEPT. Deciding the unknown ones alone, with those
    that were deferred elsewhere, gives the answer of deciding all at once.

    The same idea serves the processor's cache: detections are decided in blocks of the image, and
    then those together that another block may have a say in.

    Args:
        shapes: n detections.
        scores: (n,)
        labels: (n,) int64; two labels never meet.
        iou_threshold: 0 to 1.
        doubtful: (n,) which of them something that is not here may block.

    Returns:
        (n,) KEPT, DEAD or UNKNOWN of `tasks.merge.verdicts`.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels, np.int64)
    share = shapes.least_common_side(iou_threshold)
    parted = None if shapes.upright else shapes.arrays
    verdicts = np.full(len(shapes), UNKNOWN, np.uint8)

    def decide(places: NDArray[np.int32], block: NDArray[np.float64], away: float) -> None:
        places = _by_priority(places, scores)
        columns = copies(places, shapes.bounds, labels, doubtful)
        suppress(places, *columns, parted, float(iou_threshold), share, np.append(block, away))
        verdicts[places] = columns[-1]

    if len(shapes) > MANY and share >= _LEAST:
        away = max(1 - share, (1 / share - 1) / 2) * (1 + 1e-6)
        for places, block in blocks(shapes.bounds, away):
            decide(places, block, away)
    decide(np.flatnonzero(verdicts == UNKNOWN).astype(np.int32), EVERYWHERE, 0.0)
    return verdicts


def _by_priority(places: NDArray[np.int32], scores: NDArray[np.float64]) -> NDArray[np.int32]:
    """Ascending places by score, highest first, ties by place."""
    keys = -scores[places]
    order = np.argsort(keys)
    falling = keys[order]
    if (falling[1:] == falling[:-1]).any():
        order = np.argsort(keys, kind="stable")  # slower
    return places[order]
