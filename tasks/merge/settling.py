"""The steps of distillation, each with what it cannot know yet."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.grid.tiles import Bounds, Grid
from tasks.merge.clusters import clusters
from tasks.merge.cut.edges import cut
from tasks.merge.cut.pieces import pieces
from tasks.merge.kin import distil
from tasks.merge.nms import labels_of, nms_verdicts
from tasks.merge.shapes import Shapes, shapes_of
from tasks.merge.surfaces import dissolve
from tasks.merge.verdicts import DEAD, KEPT, UNKNOWN
from tasks.request import Algorithm, AlgorithmType
from tasks.results.detections import boxes

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]


def settled(
    detections: pa.Table,
    algorithm: Algorithm,
    grid: Grid,
    inferred: NDArray[np.int8],
    interior: Bounds,
) -> tuple[pa.Table, Mask, pa.Table]:
    """What a `Settled` is made of; as `tasks.merge.settle`."""
    if algorithm.algorithm_type is AlgorithmType.NONE:
        good = detections["score"].to_numpy() >= algorithm.skip_box_threshold
        return detections, good, detections.slice(0, 0)
    rows, shapes = _whole(detections, algorithm, grid, inferred)
    if algorithm.algorithm_type is not AlgorithmType.NMS:
        return _by_clusters(detections.take(rows), algorithm, grid, shapes, interior)
    verdicts = np.full(len(detections), DEAD, np.uint8)
    verdicts[rows] = _nms(detections, rows, algorithm, grid, shapes, interior)
    return detections, verdicts == KEPT, detections.filter(pa.array(verdicts == UNKNOWN))


def _whole(
    detections: pa.Table, algorithm: Algorithm, grid: Grid, inferred: NDArray[np.int8]
) -> tuple[Rows, Shapes]:
    """The rows that score enough and that no edge cuts away, and what they show."""
    rows = np.flatnonzero(detections["score"].to_numpy() >= algorithm.skip_box_threshold)
    shapes = shapes_of(detections, grid)
    if algorithm.applies_edge_rule:
        verdicts = cut(shapes.bounds, detections["tile"].to_numpy(), grid, inferred)
        rows = rows[verdicts[rows] != DEAD]
    return rows, shapes if len(rows) == len(shapes) else shapes.take(rows)


def _nms(  # noqa: PLR0917 - the detections, and all that there is to know of them
    detections: pa.Table,
    rows: Rows,
    algorithm: Algorithm,
    grid: Grid,
    shapes: Shapes,
    interior: Bounds,
) -> NDArray[np.uint8]:
    """What becomes of rows: what suppression keeps, and what may yet be suppressed, or suppress."""
    labels, scores = _labels(detections, algorithm)[rows], detections["score"].to_numpy()[rows]
    doubtful = _reaches_out(shapes.bounds, interior)
    verdicts = nms_verdicts(shapes, scores, labels, algorithm.iou_threshold, doubtful)
    if not algorithm.applies_edge_rule:
        return verdicts
    return pieces(shapes, labels, scores, detections["tile"].to_numpy()[rows], grid, verdicts)


def _by_clusters(
    detections: pa.Table, algorithm: Algorithm, grid: Grid, shapes: Shapes, interior: Bounds
) -> tuple[pa.Table, Mask, pa.Table]:
    """What the clusters come to that nothing else touches, and the other clusters."""
    corners = boxes(detections)
    low = np.minimum(corners[:, :2], shapes.bounds[:, :2])
    high = np.maximum(corners[:, 2:], shapes.bounds[:, 2:])
    reach = np.hstack([low, high])
    labels = _labels(detections, algorithm)
    cluster = clusters(reach, labels)
    waits: Mask = np.isin(cluster, cluster[_reaches_out(reach, interior)])
    ready = np.flatnonzero(~waits)
    decided = _distilled(detections.take(ready), algorithm, grid, shapes.take(ready), labels[ready])
    return decided, np.ones(len(decided), bool), detections.filter(pa.array(waits))


def _reaches_out(bounds: NDArray[np.float64], interior: Bounds) -> Mask:
    """Which boxes touch what lies outside of an interior."""
    out = (bounds[:, :2] <= interior[:2]) | (bounds[:, 2:] >= interior[2:])
    return np.asarray(out.any(axis=1))


def _distilled(
    detections: pa.Table, algorithm: Algorithm, grid: Grid, shapes: Shapes, labels: Rows
) -> pa.Table:
    """Detections after one of the algorithms that make new ones."""
    if algorithm.algorithm_type is AlgorithmType.DISSOLVE:
        return dissolve(detections, grid, algorithm.iou_threshold, labels)
    if algorithm.applies_edge_rule:
        scores, tiles = detections["score"].to_numpy(), detections["tile"].to_numpy()
        all_there = np.full(len(detections), KEPT, np.uint8)
        verdicts = pieces(shapes, labels, scores, tiles, grid, all_there)
        left = np.flatnonzero(verdicts == KEPT)
        detections, shapes, labels = detections.take(left), shapes.take(left), labels[left]
    return distil(
        detections,
        shapes,
        labels,
        algorithm.algorithm_type,
        iou_threshold=algorithm.iou_threshold,
        sigma=algorithm.sigma,
        skip_below=algorithm.skip_box_threshold,
        method=algorithm.method,
    )


def _labels(detections: pa.Table, algorithm: Algorithm) -> NDArray[np.int64]:
    """(n,) one integer for each class; one for all where classes do not count."""
    if algorithm.class_agnostic:
        return np.zeros(len(detections), np.int64)
    return labels_of(detections["class_name"])
