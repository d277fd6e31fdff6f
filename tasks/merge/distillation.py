"""The steps of feature distillation; each defers what other regions may still change.

1. Drop detections of classes that are not wanted, or with a score below the threshold
   (`filtering`).
2. Drop views that a tile edge cuts and a neighbouring tile shows whole (`cut_objects.edges`).
3. Drop boxes without an area that repeat an equal one (`points`).
4. Apply the algorithm. NMS decides single detections; the others decide whole clusters.
5. Of objects larger than the overlap, keep the largest view (`cut_objects.largest_view`); this
   comes after NMS, and before the other algorithms. What step 2 dropped is still matched here.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.grid.tiles import Bounds, Grid
from tasks.merge.algorithms.nms import labels_of, nms_decisions
from tasks.merge.algorithms.non_maximum_merging import merge_groups
from tasks.merge.algorithms.tables import apply_algorithm
from tasks.merge.cut_objects.edges import drop_cut_views
from tasks.merge.cut_objects.largest_view import keep_largest_views
from tasks.merge.deferral import DROPPED, KEPT, UNDECIDED, clusters, reaches_outside
from tasks.merge.dissolve import dissolve
from tasks.merge.filtering import passes_filter
from tasks.merge.points import repeated
from tasks.merge.shapes import Shapes, shapes_of
from tasks.request import Algorithm, AlgorithmType
from tasks.results.detections import boxes

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


def distil(
    detections: pa.Table,
    algorithm: Algorithm,
    grid: Grid,
    inferred: NDArray[np.int8],
    interior: Bounds,
) -> tuple[pa.Table, Mask, pa.Table]:
    """The three attributes of `Settled`; arguments as for `tasks.merge.settle`."""
    if algorithm.algorithm_type is AlgorithmType.NONE:
        return detections, passes_filter(detections, algorithm), detections.slice(0, 0)
    rows, shapes, cut = _candidates(detections, algorithm, grid, inferred, interior)
    if algorithm.algorithm_type is not AlgorithmType.NMS:
        return _by_clusters(detections.take(rows), algorithm, grid, shapes, cut, interior)
    decisions = np.full(len(detections), DROPPED, np.uint8)
    decisions[rows] = _nms(detections, rows, algorithm, grid, shapes, cut, interior)
    return detections, decisions == KEPT, detections.filter(pa.array(decisions == UNDECIDED))


def _candidates(
    detections: pa.Table,
    algorithm: Algorithm,
    grid: Grid,
    inferred: NDArray[np.int8],
    interior: Bounds,
) -> tuple[Rows, Shapes, Mask]:
    """The rows that steps 1 and 3 leave, their shapes, and which of them step 2 drops."""
    scores, tiles = detections["score"].to_numpy(), detections["tile"].to_numpy()
    shapes = shapes_of(detections, grid)
    kept, cut = passes_filter(detections, algorithm), np.zeros(len(detections), np.bool_)
    if algorithm.applies_edge_rule:
        cut = drop_cut_views(shapes.bounds, tiles, grid, inferred) == DROPPED
    flat = ~(shapes.areas > 0)
    kept &= ~(flat & cut)
    points = np.flatnonzero(kept & flat)
    points = points[~reaches_outside(shapes.bounds[points], interior)]  # others are deferred
    if len(points):
        labels = _labels(detections, algorithm)[points]
        kept[points[repeated(shapes.bounds[points], labels, scores[points])]] = False
    rows = np.flatnonzero(kept)
    return rows, shapes if len(rows) == len(shapes) else shapes.take(rows), cut[rows]


def _nms(  # noqa: PLR0917 - the detections and all that is known about them
    detections: pa.Table,
    rows: Rows,
    algorithm: Algorithm,
    grid: Grid,
    shapes: Shapes,
    cut: Mask,
    interior: Bounds,
) -> NDArray[np.uint8]:
    """Decisions on rows; UNDECIDED if detections of other regions may change them."""
    labels, scores = _labels(detections, algorithm)[rows], detections["score"].to_numpy()[rows]
    doubtful = reaches_outside(shapes.bounds, interior)
    decisions = np.where(doubtful, UNDECIDED, DROPPED).astype(np.uint8)
    whole = np.flatnonzero(~cut)
    decisions[whole] = nms_decisions(
        shapes if len(whole) == len(shapes) else shapes.take(whole),
        scores[whole],
        labels[whole],
        algorithm.iou_threshold,
        doubtful[whole],
        measure=algorithm.measure,
    )
    if not algorithm.applies_edge_rule:
        return decisions
    tiles = detections["tile"].to_numpy()[rows]
    return keep_largest_views(shapes, labels, scores, tiles, grid, decisions, matched=cut)


def _by_clusters(  # noqa: PLR0917 - the detections and all that is known about them
    detections: pa.Table,
    algorithm: Algorithm,
    grid: Grid,
    shapes: Shapes,
    cut: Mask,
    interior: Bounds,
) -> tuple[pa.Table, Mask, pa.Table]:
    """Apply the algorithm to clusters inside the interior, and defer the other clusters."""
    corners = boxes(detections)
    low = np.minimum(corners[:, :2], shapes.bounds[:, :2])
    high = np.maximum(corners[:, 2:], shapes.bounds[:, 2:])
    bounds = np.hstack([low, high])
    labels = _labels(detections, algorithm)
    cluster = clusters(bounds, labels)
    deferred: Mask = np.isin(cluster, cluster[reaches_outside(bounds, interior)])
    ready = np.flatnonzero(~deferred)
    decided = _distilled(
        detections.take(ready), algorithm, grid, shapes.take(ready), labels[ready], cut[ready]
    )
    return decided, np.ones(len(decided), bool), detections.filter(pa.array(deferred))


def _distilled(  # noqa: PLR0917 - the detections and all that is known about them
    detections: pa.Table,
    algorithm: Algorithm,
    grid: Grid,
    shapes: Shapes,
    labels: Rows,
    cut: Mask,
) -> pa.Table:
    """Detections after steps 4 and 5, for all algorithms but NMS."""
    if algorithm.algorithm_type is AlgorithmType.DISSOLVE:
        return dissolve(detections, grid, algorithm.iou_threshold, labels, algorithm.measure)
    if algorithm.applies_edge_rule:
        scores, tiles = detections["score"].to_numpy(), detections["tile"].to_numpy()
        given = np.where(cut, DROPPED, KEPT).astype(np.uint8)
        by_tile = labels * len(grid) + tiles
        same = merge_groups(
            shapes, shapes.areas, by_tile, algorithm.iou_threshold, algorithm.measure
        )
        decisions = keep_largest_views(
            shapes, labels, scores, tiles, grid, given, representatives=same, matched=cut
        )
        kept = np.flatnonzero(decisions == KEPT)
        detections, shapes, labels = detections.take(kept), shapes.take(kept), labels[kept]
    distilled = apply_algorithm(
        detections,
        shapes,
        labels,
        algorithm.algorithm_type,
        iou_threshold=algorithm.iou_threshold,
        sigma=algorithm.sigma,
        skip_below=algorithm.lowest_threshold,
        method=algorithm.method,
        measure=algorithm.measure,
    )
    if algorithm.algorithm_type is AlgorithmType.SOFT_NMS and algorithm.class_thresholds:
        return distilled.filter(pa.array(passes_filter(distilled, algorithm)))
    return distilled


def _labels(detections: pa.Table, algorithm: Algorithm) -> NDArray[np.int64]:
    """(n,) an integer for each class; 0 for all if classes are ignored."""
    if algorithm.class_agnostic:
        return np.zeros(len(detections), np.int64)
    return labels_of(detections["class_name"])
