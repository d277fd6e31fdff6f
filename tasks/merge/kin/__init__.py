"""What soft NMS, merging and fusion make of a table of detections."""

from __future__ import annotations

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from tasks.merge.kin.non_maximum_merging import merge_groups
from tasks.merge.kin.soft_nms import Method, soft_nms
from tasks.merge.kin.weighted_boxes import fuse
from tasks.merge.shapes import Shapes
from tasks.merge.shapes.parts import valid
from tasks.results.detections import boxes

BOX = ("x_min", "y_min", "x_max", "y_max")


def distil(
    table: pa.Table,
    shapes: Shapes,
    labels: NDArray[np.int64],
    algorithm_type: str,
    *,
    iou_threshold: float,
    sigma: float = 0.1,
    skip_below: float = 0.0,
    method: Method = "GAUSSIAN",
) -> pa.Table:
    """Detections after SOFT_NMS, NMM or WBF.

    A row that others joined stays the one that it was, with its class and properties. Where its
    score is a new one, the entries of its class in `featureClasses` have that too, and the model's
    as `rawScore`, as OSML writes it:

    - SOFT_NMS: every row's; boxes and geometries stay.
    - NMM: scores stay. The box is the hull of the members', the geometry the union of their
      surfaces, where any has one; a member without geometry counts with its box. Where none has a
      surface, the row keeps its line, point or nothing.
    - WBF: those of rows that others joined, with box and score as `fuse` gives them and no
      geometry, for none was seen of the mean.

    Args:
        table: n rows of `detections.SCHEMA`, sorted by tile and ordinal; so is the result.
        shapes: Of the rows; WBF knows only boxes, those of the table.
        labels: (n,) rows of two labels never meet.
        algorithm_type: SOFT_NMS, NMM or WBF.
        iou_threshold: 0 to 1.
        sigma: Of SOFT_NMS.
        skip_below: Score below which SOFT_NMS drops a row.
        method: Of SOFT_NMS.
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
            return _merged(table, merge_groups(shapes, scores, labels, iou_threshold))
        case "WBF":
            owners, means, fused = fuse(boxes(table), scores, labels, iou_threshold)
            return _fused(table, owners, means, fused)
    raise ValueError(f"{algorithm_type} is none of SOFT_NMS, NMM, WBF.")


def _merged(table: pa.Table, owners: NDArray[np.int64]) -> pa.Table:
    """The keepers' rows, grown by what they took."""
    by_owner = np.argsort(owners, kind="stable")
    keepers, starts, counts = np.unique(owners[by_owner], return_index=True, return_counts=True)
    merged = table.take(keepers)
    if len(keepers) == len(table):
        return merged
    corners = boxes(table)[by_owner]
    low = np.minimum.reduceat(corners[:, :2], starts)
    high = np.maximum.reduceat(corners[:, 2:], starts)
    merged = _boxed(merged, np.hstack([low, high]))
    grown = counts > 1
    members = table.take(by_owner[np.repeat(grown, counts)])
    own = merged["geometry"].filter(pa.array(grown)).to_pylist()
    unions = _unions(members, np.cumsum(counts[grown])[:-1], own)
    return _replaced(merged, "geometry", grown, unions)


def _unions(members: pa.Table, stops: NDArray[np.int64], own: list[bytes | None]) -> pa.Array:
    """The union of the surfaces of each run of rows, as WKB; where it has none, its own geometry.

    The copies of a line or a point never coincide, so their union would be several of it.
    """
    shapes = shapely.from_wkb(members["geometry"].to_numpy())
    dimensions = shapely.get_dimensions(shapes)  # −1 of None
    shapes = np.where(dimensions < 0, shapely.box(*boxes(members).T), shapes)
    shapes[(dimensions == 0) | (dimensions == 1)] = None
    runs = zip(own, np.split(valid(shapes), stops), np.split(dimensions, stops), strict=True)
    unions = [
        shapely.to_wkb(shapely.union_all(run)) if (surface == 2).any() else geometry
        for geometry, run, surface in runs
    ]
    return pa.array(unions, pa.binary())


def _fused(
    table: pa.Table,
    owners: NDArray[np.int64],
    means: NDArray[np.float64],
    scores: NDArray[np.float64],
) -> pa.Table:
    """The founders' rows, with the means of what joined them."""
    founders, counts = np.unique(owners, return_counts=True)
    joined = counts > 1
    fused = _boxed(table.take(founders), means[founders])
    fused = _replaced(fused, "geometry", joined, pa.nulls(int(joined.sum()), pa.binary()))
    return _rescored(fused, np.flatnonzero(joined), scores[founders][joined])


def _rescored(table: pa.Table, rows: NDArray[np.int64], scores: NDArray[np.float64]) -> pa.Table:
    """A table with new scores, (k,), in rows, (k,) ascending, that say what theirs were."""
    changed = table.take(rows)
    names, texts = changed["class_name"].to_pylist(), changed["properties"].to_pylist()
    raw = changed["score"].to_pylist()
    texts = list(map(_with_raw_score, texts, names, scores.tolist(), raw))
    mask = np.zeros(len(table), bool)
    mask[rows] = True
    table = _replaced(table, "score", mask, pa.array(scores))
    return _replaced(table, "properties", mask, pa.array(texts, pa.string()))


def _with_raw_score(text: str, name: str, score: float, raw: float) -> str:
    """Properties whose entries of a class have a new score, and theirs as `rawScore`."""
    own = orjson.loads(text)
    own["featureClasses"] = [
        entry | {"score": score, "rawScore": entry["score"]} if entry["iri"] == name else entry
        for entry in own.get("featureClasses") or [{"iri": name, "score": raw}]
    ]
    return orjson.dumps(own).decode()


def _boxed(table: pa.Table, corners: NDArray[np.float64]) -> pa.Table:
    for name, values in zip(BOX, corners.T, strict=True):
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(values))
    return table


def _replaced(table: pa.Table, name: str, mask: NDArray[np.bool_], values: pa.Array) -> pa.Table:
    """A table with other values, in order, where a mask, (n,), is set in a column."""
    place = table.schema.get_field_index(name)
    column = pc.replace_with_mask(table[name].combine_chunks(), mask, values)
    return table.set_column(place, table.schema.field(place), column)
