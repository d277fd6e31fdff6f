"""Rules for objects that tile edges cut: how many objects each leaves twice, or loses.

Objects stand on lattices whose pitch is prime to the tiles', so that they meet tile edges at every
offset. A detector is simulated: in each tile it reports what it sees of an object, a little off,
and with a score that is a little lower, on average, the less of the object the tile shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import log

import numpy as np
import pytest
import shapely
from numpy.typing import NDArray

from tasks.grid.cells import edges
from tasks.grid.tiles import Grid
from tasks.merge.algorithms.nms import nms
from tasks.merge.cut_objects.edges import TOLERANCE, drop_cut_views
from tasks.merge.cut_objects.largest_view import SHARED_IOU, keep_largest_views
from tasks.merge.deferral import DROPPED, KEPT
from tasks.merge.shapes import Shapes
from tests.greedy_pairs import decide

OVERLAP = 128
OFF = 1.0  # px that each side of a reported box is off by, at most
SHARE = 0.1  # of an object that a tile has to show for the detector to see it, or
LEAST = 4.0  # px that it has to show of it both ways
CHUNK = 20_000  # detections whose pairs are looked for together

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Scene:
    """The objects and the detections reported.

    Attributes:
        grid: The tiles.
        truth: (m, 4) boxes of the objects.
        boxes: (n, 4) boxes that the detector reported, sorted by tile.
        scores: (n,) of them.
        tiles: (n,) that they were seen in.
        objects: (n,) the object of each; unknown to the rules.
    """

    grid: Grid
    truth: Floats
    boxes: Floats
    scores: Floats
    tiles: Indices
    objects: Indices


@dataclass(frozen=True)
class Lattice:
    """Where objects stand: across × across of them, at a pitch, px.

    Attributes:
        name: What kind of objects.
        across: Objects in a row.
        pitch: Prime to the tiles', px.
        sides: Shortest and longest side, px.
        found: IoU of a result with the object, from which it counts as found.
        off: Share of a view's width and height that the detector's boxes are off by, at most.
    """

    name: str
    across: int
    pitch: int
    sides: tuple[float, float]
    found: float
    off: float = 0.0


LATTICES = [
    Lattice("small", 300, 97, (10, 60), 0.5),
    Lattice("large", 100, 653, (60, 600), 0.3),
    Lattice("large, boxes 6 % off", 100, 653, (60, 600), 0.3, off=0.06),
    Lattice("large, boxes cross", 150, 263, (60, 600), 0.3),
]


def scene(lattice: Lattice, tile: int) -> Scene:
    """The objects of a lattice, their sides drawn log-uniformly, and what is seen of them."""
    across, pitch = lattice.across, lattice.pitch
    rng = np.random.default_rng(5)
    rows, columns = np.divmod(np.arange(across**2), across)
    shortest, longest = lattice.sides
    sides = np.exp(rng.uniform(log(shortest), log(longest), (across**2, 2)))
    centres = (np.stack([columns, rows], axis=1) + 0.5) * pitch + rng.uniform(0, 1, sides.shape)
    low, high = centres - sides / 2, centres + sides / 2
    inside = (low >= 0).all(axis=1) & (high <= across * pitch).all(axis=1)
    truth = np.concatenate([low, high], axis=1)[inside]
    grid = Grid(across * pitch, across * pitch, tile, OVERLAP)
    return Scene(grid, truth, *detect(truth, grid, lattice.off, rng))


def detect(
    truth: Floats, grid: Grid, off: float, rng: np.random.Generator
) -> tuple[Floats, Floats, Indices, Indices]:
    """Boxes, scores, tiles and objects that the simulated detector reports.

    Sides that no edge cuts are off by up to a share of the view's width or height more.
    """
    seen = [
        (row * len(grid.columns) + column, objects)
        for columns, in_columns in _shown(grid.columns, grid.tile_width, truth[:, 0], truth[:, 2])
        for rows, in_rows in _shown(grid.rows, grid.tile_height, truth[:, 1], truth[:, 3])
        for objects in [np.flatnonzero(in_columns & in_rows)]
        for row, column in [(rows[objects], columns[objects])]
    ]
    tiles, objects = (np.concatenate(parts) for parts in zip(*seen, strict=True))
    seen_in = grid.windows(tiles)
    shown = clip(truth[objects], seen_in)
    sides, share = shown[:, 2:] - shown[:, :2], area(shown) / area(truth[objects])
    reported = np.flatnonzero((share >= SHARE) | (sides >= LEAST).all(axis=1))
    order = reported[np.lexsort((rng.random(len(reported)), tiles[reported]))]
    scores = 0.6 + 0.2 * share[order] + rng.normal(0, 0.1, len(order))
    most = np.where(shown == truth[objects], OFF + off * np.tile(sides, 2), OFF)
    boxes = clip((shown + most * rng.uniform(-1, 1, most.shape))[order], seen_in[order])
    return boxes, np.clip(scores, 0, 1), tiles[order], objects[order]


def _shown(
    starts: list[int], extent: int, low: Floats, high: Floats
) -> Iterator[tuple[Indices, NDArray[np.bool_]]]:
    """Tiles along an axis that show some of each object: the first of each, then the second."""
    first = np.searchsorted(starts, low - extent, side="right")
    last = np.searchsorted(starts, high, side="left") - 1
    for step in range((last - first).max() + 1):
        yield np.minimum(first + step, len(starts) - 1), first + step <= last


def clip(boxes: Floats, windows: Floats) -> Floats:
    low, high = windows[:, [0, 1, 0, 1]], windows[:, [2, 3, 2, 3]]
    return np.clip(boxes, low, high)


def area(boxes: Floats) -> Floats:
    sides: Floats = (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1)
    return sides


def common_area(one: Floats, other: Floats) -> Floats:
    low = np.maximum(one[:, :2], other[:, :2])
    return area(np.concatenate([low, np.minimum(one[:, 2:], other[:, 2:])], axis=1))


def plain(seen: Scene, iou: float) -> Indices:
    none = np.zeros(len(seen.boxes), np.int64)
    return nms(seen.boxes, seen.scores, none, iou)


def over_smaller(seen: Scene, asked: Indices, order: Indices, ratio: float = 0.5) -> Indices:
    """Greedily drop what shares over `ratio` of the smaller of two with an earlier one in `order`.

    Only what is among `asked` is dropped.
    """
    tree = shapely.STRtree(shapely.box(*seen.boxes.T))
    rank = np.full(len(seen.boxes), len(order))
    rank[order] = np.arange(len(order))
    pairs = [np.empty((2, 0), np.int64)]
    for start in range(0, len(asked), CHUNK):
        part = asked[start : start + CHUNK]
        later, earlier = tree.query(shapely.box(*seen.boxes[part].T))
        later = part[later]
        before = rank[earlier] < rank[later]
        later, earlier = later[before], earlier[before]
        smaller = np.minimum(area(seen.boxes[later]), area(seen.boxes[earlier]))
        over = common_area(seen.boxes[later], seen.boxes[earlier]) > ratio * smaller
        pairs.append(np.stack([earlier[over], later[over]]))
    blockers, blocked = np.concatenate(pairs, axis=1)
    doubtful = np.zeros(len(seen.boxes), np.bool_)
    decisions = decide(np.argsort(rank, kind="stable"), blockers, blocked, doubtful)
    kept: Indices = order[decisions[order] == KEPT]
    return kept


def smaller_by_score(seen: Scene) -> Indices:
    order = np.argsort(-seen.scores, kind="stable")
    return over_smaller(seen, order, order)


def centre_owned(seen: Scene) -> Indices:
    """NMS of detections whose centre lies in their tile's own cell."""
    rows, columns = np.divmod(seen.tiles, len(seen.grid.columns))
    x, y = ((seen.boxes[:, :2] + seen.boxes[:, 2:]) / 2).T
    across = edges(seen.grid.columns, seen.grid.tile_width)
    down = edges(seen.grid.rows, seen.grid.tile_height)
    own = (across[columns] <= x) & (x < across[columns + 1])
    own &= (down[rows] <= y) & (y < down[rows + 1])
    return after_nms(seen, np.flatnonzero(own), 0.5)


def after_nms(seen: Scene, places: Indices, iou: float) -> Indices:
    none = np.zeros(len(places), np.int64)
    return places[nms(seen.boxes[places], seen.scores[places], none, iou)]


def whole(seen: Scene, iou: float) -> Indices:
    """Views that no neighbour shows whole, after NMS."""
    inferred = np.ones(len(seen.grid), np.int8)
    decisions = drop_cut_views(seen.boxes, seen.tiles, seen.grid, inferred)
    return after_nms(seen, np.flatnonzero(decisions != DROPPED), iou)


def ours(seen: Scene, iou: float, agreed: float = SHARED_IOU) -> Indices:
    inferred = np.ones(len(seen.grid), np.int8)
    cut = drop_cut_views(seen.boxes, seen.tiles, seen.grid, inferred) == DROPPED
    decisions = np.full(len(seen.boxes), DROPPED, np.uint8)
    decisions[after_nms(seen, np.flatnonzero(~cut), iou)] = KEPT
    labels = np.zeros(len(decisions), np.int64)
    shapes = Shapes.boxes(seen.boxes)
    found = keep_largest_views(
        shapes, labels, seen.scores, seen.tiles, seen.grid, decisions, agreed, matched=cut
    )
    return np.flatnonzero(found == KEPT)


def smaller_of_pieces(seen: Scene, iou: float) -> Indices:
    """As ours, but the last step uses intersection over smaller of views that touch an edge."""
    left = whole(seen, iou)
    tiles, boxes = seen.grid.windows(seen.tiles[left]), seen.boxes[left]
    ends = (seen.grid.width, seen.grid.height)
    touching = (boxes[:, :2] <= tiles[:, :2] + TOLERANCE) & (tiles[:, :2] > 0)
    touching |= (boxes[:, 2:] >= tiles[:, 2:] - TOLERANCE) & (tiles[:, 2:] < ends)
    order = left[np.argsort(-area(boxes), kind="stable")]
    return over_smaller(seen, left[touching.any(axis=1)], order)


RULES: dict[str, Callable[[Scene], Indices]] = {
    "NMS, IoU 0.75": lambda seen: plain(seen, 0.75),
    "NMS, IoU 0.5": lambda seen: plain(seen, 0.5),
    "intersection over smaller 0.5": smaller_by_score,
    "centre ownership, NMS 0.5": centre_owned,
    "cut views dropped, NMS 0.5": lambda seen: whole(seen, 0.5),
    "the same, then pieces by IoS": lambda seen: smaller_of_pieces(seen, 0.5),
    "ours with NMS 0.75": lambda seen: ours(seen, 0.75),
    "ours, agreed from 0.4 on": lambda seen: ours(seen, 0.5, 0.4),
    "ours, agreed from 0.8 on": lambda seen: ours(seen, 0.5, 0.8),
    "ours": lambda seen: ours(seen, 0.5),
}


def judge(seen: Scene, kept: Indices, least: float) -> dict[str, float]:
    """Shares of the objects, %: with more than one result, with none, with none that is good."""
    of = seen.objects[kept]
    results = np.bincount(of, minlength=len(seen.truth))
    common = common_area(seen.boxes[kept], seen.truth[of])
    ious = common / (area(seen.boxes[kept]) + area(seen.truth[of]) - common)
    best = np.zeros(len(seen.truth))
    np.maximum.at(best, of, ious)
    return {
        "duplicates": 100 * float((results > 1).mean()),
        "lost": 100 * float((results == 0).mean()),
        "missed": 100 * float((best < least).mean()),
    }


@pytest.mark.parametrize("tile", [512, 1024])
@pytest.mark.parametrize("lattice", LATTICES, ids=lambda lattice: lattice.name)
def test_the_rules_side_by_side(lattice: Lattice, tile: int) -> None:
    seen = scene(lattice, tile)
    figures = {rule: judge(seen, apply(seen), lattice.found) for rule, apply in RULES.items()}
    counts = f"{len(seen.truth)} objects, {len(seen.boxes)} views"
    print(f"\n{lattice.name}: {counts}, tiles of {tile}, % of the objects")
    print(f"{'':32}{'duplicates':>12}{'lost':>8}{f'IoU < {lattice.found}':>12}")
    for rule, shares in figures.items():
        duplicates, lost, missed = shares.values()
        print(f"{rule:32}{duplicates:12.3f}{lost:8.3f}{missed:12.3f}")
    line = {"benchmark": "cut objects", "objects": lattice.name, "tile": tile, "overlap": OVERLAP}
    rounded = {r: {k: round(v, 3) for k, v in f.items()} for r, f in figures.items()}
    print(json.dumps(line | {"percent": rounded}))
    left = figures["ours"]
    if lattice.name != "large, boxes cross":  # NMS itself loses some of those
        assert left["duplicates"] <= 0.1
        assert left["missed"] <= 0.1
        assert left["lost"] == 0
