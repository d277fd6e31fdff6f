"""Functions for oriented boxes: their corners, and NMS by the likeness of their distributions.

A box is centre x, centre y, width, height in pixels, and the angle of its width from the x axis
towards the y axis in radians, which is clockwise as images are shown.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

_EPSILON = 1e-7  # of Ultralytics' `batch_probiou`
_MAX_DISTANCE = 100.0  # of the same
_ROWS = 256  # boxes that are compared with all others at once
_SLACK = 1.0  # pixels; for boxes so small that the epsilons count

Floats = NDArray[np.float64]


def corners_of(boxes: Floats) -> Floats:
    """(n, 4, 2) the corners in order around each box, as Ultralytics' `xywhr2xyxyxyxy`.

    Boxes whose width or height is not positive have no corners: NaN.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # rejected with the answer
        centre, half = boxes[:, :2], np.where(boxes[:, 2:4] > 0, boxes[:, 2:4], np.nan) / 2
        cosine, sine = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
        along = half[:, :1] * np.stack([cosine, sine], axis=1)
        across = half[:, 1:] * np.stack([-sine, cosine], axis=1)
        corners: Floats = np.stack(
            [
                centre + along + across,
                centre + along - across,
                centre - along - across,
                centre - along + across,
            ],
            axis=1,
        )
    return corners


def outlines_of(corners: Floats) -> tuple[Floats, NDArray[np.object_]]:
    """(n, 4) the bounds of boxes with corners (n, 4, 2), and (n,) their polygons."""
    bounds = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    usable = np.isfinite(bounds).all(axis=1)
    outlines: NDArray[np.object_] = np.full(len(corners), shapely.Polygon(), object)
    outlines[usable] = shapely.polygons(corners[usable])
    return bounds, outlines


def suppress_oriented(
    boxes: Floats, scores: NDArray[Any], classes: NDArray[np.int64], iou_threshold: float
) -> NDArray[np.intp]:
    """Indices of the boxes that the NMS of Ultralytics keeps, in descending order of score.

    A box is dropped if any better one of its class, itself dropped or not, is as like it as the
    threshold says or more. The likeness, `probiou`, is one less the Hellinger distance of the
    normal distributions that have the boxes' centres and second moments (Llerena et al., 2021,
    arXiv:2106.06072).

    Args:
        boxes: (n, 5) boxes.
        scores: (n,) scores in any floating dtype.
        classes: (n,) class indices.
        iou_threshold: 0 to 1.

    Returns:
        The indices. Boxes that are not finite or have no area are kept and come last, so that the
        check of the answer counts them as malformed.
    """
    usable = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:4] > 0).all(axis=1)
    best = np.flatnonzero(usable)
    best = best[np.argsort(-scores[best].astype(np.float64), kind="stable")]
    kept = ~_alike_a_better_one(boxes[best], classes[best], iou_threshold)
    return np.concatenate([best[kept], np.flatnonzero(~usable)])


def probiou(first: Floats, second: Floats) -> Floats:
    """(n,) the likeness of n pairs of boxes (n, 5), 0 to 1, as Ultralytics' `batch_probiou`."""
    shift_x, shift_y = (first[:, :2] - second[:, :2]).T
    (a1, b1, c1), (a2, b2, c2) = _moments(first), _moments(second)
    a, b, c = a1 + a2, b1 + b2, c1 + c2
    determinant = a * b - c**2
    place = (a * shift_y**2 + b * shift_x**2 - 2 * c * shift_x * shift_y) / (determinant + _EPSILON)
    singles = np.clip(a1 * b1 - c1**2, 0, None) * np.clip(a2 * b2 - c2**2, 0, None)
    size = np.log(determinant / (4 * np.sqrt(singles) + _EPSILON) + _EPSILON)
    distance = np.clip(place / 4 + size / 2, _EPSILON, _MAX_DISTANCE)
    likeness: Floats = 1 - np.sqrt(1 - np.exp(-distance) + _EPSILON)
    return likeness


def _moments(boxes: Floats) -> tuple[Floats, Floats, Floats]:
    """The variances in x and in y of points spread evenly over each box, and their covariance."""
    along, across = (boxes[:, 2:4] ** 2 / 12).T
    cosine, sine = np.cos(boxes[:, 4]), np.sin(boxes[:, 4])
    return (
        along * cosine**2 + across * sine**2,
        along * sine**2 + across * cosine**2,
        (along - across) * cosine * sine,
    )


def _alike_a_better_one(
    boxes: Floats, classes: NDArray[np.int64], iou_threshold: float
) -> NDArray[np.bool_]:
    """(n,) True for boxes that are as like an earlier one of their class as the threshold says."""
    alike = np.zeros(len(boxes), bool)
    reach = _reach(boxes, iou_threshold)
    near = shapely.box(*(boxes[:, :2] - reach).T, *(boxes[:, :2] + reach).T)
    for label in np.unique(classes):
        rows = np.flatnonzero(classes == label)
        tree = shapely.STRtree(near[rows])
        for start in range(0, len(rows), _ROWS):
            one, other = tree.query(near[rows[start : start + _ROWS]])
            one, other = rows[one + start], rows[other]
            one, other = one[other < one], other[other < one]
            alike[one[probiou(boxes[one], boxes[other]) >= iou_threshold]] = True
    return alike


def _reach(boxes: Floats, iou_threshold: float) -> Floats:
    """(n, 1) pixels: two boxes that are like each other have squares of this radius that meet.

    The distance of their distributions is at least d² / (4 · (v₁ + v₂)), of which d is that of the
    centres, and v the variance along the longer side of each.
    """
    longest = -np.log(max(1 + _EPSILON - (1 - iou_threshold) ** 2, _EPSILON))
    side = boxes[:, 2:4].max(axis=1, keepdims=True)
    reach: Floats = side * np.sqrt(max(longest, 0.0) / 3) * (1 + 1e-6) + _SLACK
    return reach
