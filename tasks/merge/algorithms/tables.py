"""Soft NMS, NMM and WBF applied to a table of detections."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from tasks.merge.algorithms.non_maximum_merging import merge_groups
from tasks.merge.algorithms.soft_nms import Method, soft_nms
from tasks.merge.algorithms.weighted_boxes import fuse
from tasks.merge.shapes import Shapes
from tasks.merge.shapes.parts import valid
from tasks.request import Measure
from tasks.results import exact_json
from tasks.results.detections import BOX_COLUMNS, boxes


def apply_algorithm(
    table: pa.Table,
    shapes: Shapes,
    labels: NDArray[np.int64],
    algorithm_type: str,
    *,
    iou_threshold: float,
    sigma: float = 0.1,
    skip_below: float = 0.0,
    method: Method = "GAUSSIAN",
    measure: Measure = Measure.IOU,
) -> pa.Table:
    """Apply SOFT_NMS, NMM or WBF to detections.

    - SOFT_NMS: all rows have a new score and keep their boxes and geometries.
    - NMM: each keeper's row stays, with its score, class and properties. Its box is the bounds of
      its members' boxes, its geometry the union of their surfaces; a member without a geometry
      counts as its box. If no member has a surface, the keeper's geometry stays.
    - WBF: each founder's row stays, with its class and properties. If other boxes joined it, it has
      the box and score of `fuse`, and no geometry, as the model gave none for the mean.

    In rows with a new score, the entries of the row's class in `featureClasses` have that score,
    and the model's own as `rawScore`, as in OSML.

    Args:
        table: n rows of `detections.SCHEMA`, sorted by tile and ordinal, as is the result.
        shapes: n shapes of the rows; WBF uses only the boxes of the table.
        labels: (n,) rows of different labels are never compared.
        algorithm_type: SOFT_NMS, NMM or WBF.
        iou_threshold: 0 to 1.
        sigma: For SOFT_NMS.
        skip_below: Score below which SOFT_NMS drops a row.
        method: For SOFT_NMS.
        measure: Of the overlap, for NMM.

    Raises:
        ValueError: For any other algorithm.
    """
    scores = table["score"].to_numpy()
    match algorithm_type:
        case "SOFT_NMS":
            softened = soft_nms(
                shapes,
                scores,
                labels,
                iou_threshold=iou_threshold,
                sigma=sigma,
                skip_below=skip_below,
                method=method,
            )
            kept = np.flatnonzero(~np.isnan(softened))
            return _rescored(table.take(kept), np.arange(len(kept)), softened[kept])
        case "NMM":
            return _merged(table, merge_groups(shapes, scores, labels, iou_threshold, measure))
        case "WBF":
            founders, means, fused = fuse(boxes(table), scores, labels, iou_threshold)
            return _fused(table, founders, means, fused)
    raise ValueError(f"{algorithm_type} is not SOFT_NMS, NMM or WBF.")


def _merged(table: pa.Table, keepers: NDArray[np.int64]) -> pa.Table:
    """The keepers' rows, with boxes and geometries of all their members; `keepers` is (n,)."""
    by_keeper = np.argsort(keepers, kind="stable")
    rows, starts, counts = np.unique(keepers[by_keeper], return_index=True, return_counts=True)
    merged = table.take(rows)
    if len(rows) == len(table):
        return merged
    corners = boxes(table)[by_keeper]
    low = np.minimum.reduceat(corners[:, :2], starts)
    high = np.maximum.reduceat(corners[:, 2:], starts)
    merged = _with_boxes(merged, np.hstack([low, high]))
    grown = counts > 1
    members = table.take(by_keeper[np.repeat(grown, counts)])
    own = merged["geometry"].filter(pa.array(grown)).to_pylist()
    unions = _unions(members, np.cumsum(counts[grown])[:-1], own)
    return _with_values(merged, "geometry", grown, unions)


def _unions(members: pa.Table, stops: NDArray[np.int64], own: list[bytes | None]) -> pa.Array:
    """The union of the surfaces of each group of rows as WKB; without a surface, its own geometry.

    Lines and points are left out: those of different tiles never coincide exactly, so their union
    would consist of several.

    Args:
        members: The rows of k groups, group after group.
        stops: (k − 1,) ends of all groups but the last.
        own: (k,) WKB of each group's keeper, or None.
    """
    shapes = shapely.from_wkb(members["geometry"].to_numpy())
    dimensions = shapely.get_dimensions(shapes)  # −1 for None
    shapes = np.where(dimensions < 0, shapely.box(*boxes(members).T), shapes)
    shapes[(dimensions == 0) | (dimensions == 1)] = None
    groups = zip(own, np.split(valid(shapes), stops), np.split(dimensions, stops), strict=True)
    unions = [
        shapely.to_wkb(shapely.union_all(group)) if (dimension == 2).any() else geometry
        for geometry, group, dimension in groups
    ]
    return pa.array(unions, pa.binary())


def _fused(
    table: pa.Table,
    founders: NDArray[np.int64],
    means: NDArray[np.float64],
    scores: NDArray[np.float64],
) -> pa.Table:
    """The founders' rows, with the boxes and scores of `fuse` if other boxes joined them."""
    rows, counts = np.unique(founders, return_counts=True)
    joined = counts > 1
    fused = _with_boxes(table.take(rows), means[rows])
    fused = _with_values(fused, "geometry", joined, pa.nulls(int(joined.sum()), pa.binary()))
    return _rescored(fused, np.flatnonzero(joined), scores[rows][joined])


def _rescored(table: pa.Table, rows: NDArray[np.int64], scores: NDArray[np.float64]) -> pa.Table:
    """A table with new scores, (k,), in k rows, ascending, and the old ones as `rawScore`."""
    changed = table.take(rows)
    names, texts = changed["class_name"].to_pylist(), changed["properties"].to_pylist()
    raw = changed["score"].to_pylist()
    texts = list(map(_with_raw_score, texts, names, scores.tolist(), raw))
    mask = np.zeros(len(table), bool)
    mask[rows] = True
    table = _with_values(table, "score", mask, pa.array(scores))
    return _with_values(table, "properties", mask, pa.array(texts, pa.string()))


def _with_raw_score(text: str, name: str, score: float, raw: float) -> str:
    """Properties as JSON whose entries of a class have a new score, and the old as `rawScore`."""
    own = exact_json.loads(text)
    own["featureClasses"] = [
        entry | {"score": score, "rawScore": entry["score"]} if entry["iri"] == name else entry
        for entry in own.get("featureClasses") or [{"iri": name, "score": raw}]
    ]
    return exact_json.dumps(own).decode()


def _with_boxes(table: pa.Table, corners: NDArray[np.float64]) -> pa.Table:
    for name, values in zip(BOX_COLUMNS, corners.T, strict=True):
        position = table.schema.get_field_index(name)
        table = table.set_column(position, table.schema.field(position), pa.array(values))
    return table


def _with_values(table: pa.Table, name: str, mask: NDArray[np.bool_], values: pa.Array) -> pa.Table:
    """A table with new values, in order, in the rows of a column where a mask, (n,), is True."""
    position = table.schema.get_field_index(name)
    column = pc.replace_with_mask(table[name].combine_chunks(), mask, values)
    return table.set_column(position, table.schema.field(position), column)
