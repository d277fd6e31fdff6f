"""Which surfaces of different tiles are one object."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from tasks.grid.tiles import Grid
from tasks.merge.compiled import compiled, inlined
from tasks.merge.deferral import root, roots, unite
from tasks.merge.dissolve.shared_area import PieceArrays, Pieces, Surfaces, pieces, steps
from tasks.request import Measure

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_QUERIED = 64
"""Pieces whose neighbours are queried at a time: bounds the pairs in memory if many coincide."""

WITHIN = 0.5
"""Share of an object's area within another above which both are one."""

_COMPARED = 1024
"""Pairs compared in the first round: pairs that it puts in one group need no comparison."""


def join(
    surfaces: Surfaces, count: int, grid: Grid, threshold: float, measure: Measure
) -> Integers:
    """Group detections that show one object.

    Two tiles both show the area that their windows share, and the same objects in it. Two
    detections of one label are one object if, within the area that their tiles share, a connected
    piece of the one and a connected piece of the other have an overlap (IoU, or intersection over
    the smaller) above a threshold. It is computed from areas, or from lengths if the tiles only
    touch and the shared area is a line. Two detections of one tile are one object only through a
    detection of another tile.

    Connected pieces are compared rather than whole detections: of a U-shaped object, a tile that
    shows only the two arms has two detections, each of which is only half of what its neighbour
    shows in that area.

    Args:
        surfaces: Surfaces of the detections.
        count: Number of detections, n.
        grid: The image's tiles.
        threshold: 0 to 1.
        measure: Of the overlap.

    Returns:
        (n,) for each detection, the first detection of its group.
    """
    parents, of_smaller = np.arange(count), measure is Measure.IOS
    for step in steps(grid):
        here = pieces(surfaces, grid, step)
        there = pieces(surfaces, grid, (-step[0], -step[1]))
        tree = shapely.STRtree(there.shapes)
        for start in range(0, len(here), _QUERIED):
            pairs = tree.query(here.shapes[start : start + _QUERIED])
            pairs[0] += start
            may = _may_match(here.arrays, there.arrays, pairs, parents, threshold, of_smaller)
            _unite_matching(
                here, there, pairs[:, may], parents, threshold=threshold, of_smaller=of_smaller
            )
    return roots(parents, np.arange(count))


def join_contained(surfaces: Surfaces, groups: Integers) -> Integers:
    """Group objects that lie in others: more than half of the one, as different tiles show both.

    `join` leaves a part of a surface alone if it fills too little of what another tile shows.

    Args:
        surfaces: Surfaces of n detections.
        groups: (n,) as returned by `join`.

    Returns:
        (n,) for each detection, the first detection of its group.
    """
    own = groups[surfaces.rows]
    pairs = _overlapping(surfaces, own)
    common = shapely.intersection(*surfaces.polygons[pairs])
    objects, of = np.unique(np.sort(own[pairs], axis=0), axis=1, return_inverse=True)
    shared = _union_areas(common, of, np.arange(objects.shape[1]))
    each, at = np.unique(objects, return_inverse=True)
    areas = _union_areas(surfaces.polygons, own, each)
    least = areas[at.reshape(objects.shape)].min(axis=0)
    parents = groups.copy()
    unite(parents, *objects[:, shared > WITHIN * least])
    return roots(parents, np.arange(len(groups)))


def _union_areas(geometries: NDArray[np.object_], keys: Integers, wanted: Integers) -> Floats:
    """(k,) area of the union of the geometries with each of k keys."""
    order = np.argsort(keys, kind="stable")
    starts = np.searchsorted(keys[order], wanted)
    stops = np.searchsorted(keys[order], wanted, side="right")
    members = [geometries[order[start:stop]] for start, stop in zip(starts, stops, strict=True)]
    return np.array([shapely.union_all(each).area for each in members], np.float64)


def _overlapping(surfaces: Surfaces, groups: Integers) -> Integers:
    """(2, k) pairs of polygons of different groups and tiles, and one label, that share an area.

    Args:
        surfaces: p polygons.
        groups: (p,) group of each.
    """
    tree, found = shapely.STRtree(surfaces.polygons), [np.empty((2, 0), np.int64)]
    for start in range(0, len(groups), _QUERIED):
        one, other = tree.query(surfaces.polygons[start : start + _QUERIED])
        one += start
        low = np.maximum(surfaces.bounds[one, :2], surfaces.bounds[other, :2])
        high = np.minimum(surfaces.bounds[one, 2:], surfaces.bounds[other, 2:])
        may = (one < other) & (groups[one] != groups[other]) & (low < high).all(axis=1)
        may &= surfaces.tiles[one] != surfaces.tiles[other]
        may &= surfaces.labels[one] == surfaces.labels[other]
        found.append(np.stack([one[may], other[may]]))
    return np.concatenate(found, axis=1)


@compiled
def _may_match(  # noqa: PLR0917 - compiled functions take what they need in place
    here: PieceArrays,
    there: PieceArrays,
    pairs: Integers,
    parents: Integers,
    threshold: float,
    of_smaller: bool,
) -> NDArray[np.bool_]:
    """(k,) True for those of (2, k) pairs that may match, judging by their bounds.

    A pair can match if both pieces lie in one shared area, have one label and their detections are
    not in one group yet.
    """
    may = np.zeros(pairs.shape[1], np.bool_)
    for pair in range(pairs.shape[1]):
        one, other = pairs[0, pair], pairs[1, pair]
        if (
            here.areas[one] == there.areas[other]
            and here.labels[one] == there.labels[other]
            and root(parents, here.rows[one]) != root(parents, there.rows[other])
        ):
            common = _intersection(here, there, one, other)
            ratio = _ratio(here.sizes[one], there.sizes[other], common, of_smaller)
            may[pair] = ratio > threshold
    return may


def _unite_matching(
    here: Pieces,
    there: Pieces,
    pairs: Integers,
    parents: Integers,
    *,
    threshold: float,
    of_smaller: bool,
) -> None:
    """Unite the groups of the detections of each of (2, k) pairs of pieces that match.

    The pairs are compared in random order: of many that all match, the first few unite nearly all
    detections, and the other pairs need no comparison.
    """
    pairs = pairs[:, np.random.default_rng(0).permutation(pairs.shape[1])]
    compared = _COMPARED
    while pairs.shape[1]:
        ones, others = pairs[:, :compared]
        match = _ratios(here, there, ones, others, of_smaller) > threshold
        unite(parents, here.arrays.rows[ones[match]], there.arrays.rows[others[match]])
        ones, others = pairs = pairs[:, compared:]
        one, other = here.arrays.rows[ones], there.arrays.rows[others]
        pairs = pairs[:, roots(parents, one) != roots(parents, other)]
        compared *= 2


def _ratios(
    here: Pieces, there: Pieces, ones: Integers, others: Integers, of_smaller: bool
) -> Floats:
    """Overlaps of pairs of pieces."""
    common = _intersections(here.arrays, there.arrays, ones, others)
    partial = ~(here.arrays.full[ones] & there.arrays.full[others])
    one, other = here.shapes[ones[partial]], there.shapes[others[partial]]
    common[partial] = shapely.area(shapely.intersection(one, other))
    one_sizes, other_sizes = here.arrays.sizes[ones], there.arrays.sizes[others]
    ratios: Floats = _ratio(one_sizes, other_sizes, common, of_smaller)
    return ratios


@compiled
def _ratio(one: Any, other: Any, common: Any, of_smaller: bool) -> Any:  # noqa: ANN401 - numbers or arrays
    smaller = np.minimum(one, other)
    common = np.minimum(common, smaller)
    return common / (smaller if of_smaller else one + other - common)


@compiled
def _intersections(
    here: PieceArrays, there: PieceArrays, ones: Integers, others: Integers
) -> Floats:
    """Intersections of the bounds of pairs of pieces in one shared area, px²; px of lines."""
    common = np.empty(len(ones))
    for pair in range(len(ones)):
        common[pair] = _intersection(here, there, ones[pair], others[pair])
    return common


@inlined
def _intersection(here: PieceArrays, there: PieceArrays, one: int, other: int) -> float:
    a, b = here.bounds[one], there.bounds[other]
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common: float = max(width, height) if here.lines[one] else width * height
    return common
