"""Objects larger than the overlap of tiles: of all tiles' views, the largest stays.

No tile may show such an object whole. So views of two tiles are matched by what both tiles show
(`tasks.merge.cut_objects.matching`), and of each match that an edge cuts, the smaller is dropped.

A fragment that no edge cuts may be left of such an object: a detector may end its box before the
edge, or find only a part of what it cannot see whole. It is dropped if it lies in a larger view
that reaches beyond the edge of the fragment's tile, on the side of the other tile's cell. The other
tile shows as much of the place, so a real object in the box of another is found there too, and
stays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.grid.tiles import Grid
from tasks.merge.compiled import compiled
from tasks.merge.cut_objects.edges import TOLERANCE, Tiling
from tasks.merge.cut_objects.matching import match
from tasks.merge.cut_objects.views import Indices, Views, between, is_cut_towards, overlap, views_of
from tasks.merge.deferral import DROPPED, UNDECIDED, roots, unite_two
from tasks.merge.shapes import Shapes
from tasks.merge.shapes.overlap import intersection_area

SHARED_IOU = 0.6
"""Intersection over union within the shared area above which two views may be of one object.

A lower value loses large objects whose boxes cross; a higher one leaves duplicates of detectors
whose boxes are a few percent off: `tests/benchmarks/test_cut_objects.py` measures both.
"""

WITHIN = 0.8
"""Share of a fragment's area that lies in the view that it is a part of."""


def keep_largest_views(  # noqa: PLR0917 - the columns of the detections
    shapes: Shapes,
    labels: Indices,
    scores: NDArray[np.float64],
    tiles: Indices,
    grid: Grid,
    decisions: NDArray[np.uint8],
    iou: float = SHARED_IOU,
    representatives: Indices | None = None,
) -> NDArray[np.uint8]:
    """Drop each detection that is a part of what another tile shows more of.

    Detections are visited by area, largest first, ties by score, highest first, then by index. A
    detection is dropped if one visited before, of the same label, from another tile and not
    dropped, shows more of its object: if it touches an edge with a tile beyond it and its
    representative is matched with the other one, or if it is a fragment of the other one.

    UNDECIDED detections can be decided later without the others: in a second call, with those that
    are UNDECIDED here and that no other rule dropped in between. Both calls together keep the same
    detections as one call for all. For that, all detections that an UNDECIDED one may affect,
    directly or through others, are UNDECIDED.

    Args:
        shapes: n shapes of the detections, each clipped to its tile.
        labels: (n,) classes; detections of different labels are never compared.
        scores: (n,) higher is better.
        tiles: (n,) index in the grid of each detection's tile.
        grid: The image's tiles.
        decisions: (n,) of the earlier rules: DROPPED detections are ignored, UNDECIDED ones may
            still be dropped by them.
        iou: Intersection over union within the shared area above which two views may be one object.
        representatives: (n,) the largest detection of the same tile that shows the same object;
            without, each detection shows an object of its own.

    Returns:
        (n,) DROPPED, KEPT or UNDECIDED; DROPPED and UNDECIDED ones are unchanged.
    """
    present = np.flatnonzero(decisions != DROPPED)
    by_area = present[np.lexsort((-scores[present], -shapes.areas[present]))]
    views = views_of(shapes, labels, tiles, by_area, len(grid))
    tiling, parents = Tiling.of(grid), np.arange(len(shapes))
    if representatives is None:
        representatives = np.arange(len(shapes))
    pairs = match(views, tiling, representatives, iou, parents)
    both_ways = np.concatenate([pairs, pairs[:, ::-1]])
    both_ways = both_ways[np.argsort(both_ways[:, 0], kind="stable")]
    starts = np.searchsorted(both_ways[:, 0], np.arange(len(shapes) + 1))
    partners = np.ascontiguousarray(both_ways[:, 1])
    dropped = _visit(by_area, views, tiling, representatives, partners, starts, parents)
    found = np.where(dropped, DROPPED, decisions).astype(np.uint8)
    undecided = np.flatnonzero(decisions == UNDECIDED)
    if len(undecided):
        sets = roots(parents, np.arange(len(shapes)))
        found[np.isin(sets, sets[undecided]) & (decisions != DROPPED)] = UNDECIDED
    return found


@compiled
def _visit(  # noqa: PLR0917 - compiled functions take what they need in place
    by_area: Indices,
    views: Views,
    tiling: Tiling,
    representatives: Indices,
    partners: Indices,
    starts: Indices,
    parents: Indices,
) -> NDArray[np.bool_]:
    """Visit the views by area; return which are dropped.

    Args:
        by_area: (m,) the views.
        views: All views.
        tiling: The tiles.
        representatives: (n,) of the views.
        partners: Those that view i is matched with are partners[starts[i] : starts[i + 1]].
        starts: (n + 1,) see there.
        parents: (n,) disjoint sets of views that may affect each other; united further.
    """
    dropped = np.zeros(len(views.tiles), np.bool_)
    for index in by_area:
        shown = representatives[index]
        for partner in partners[starts[shown] : starts[shown + 1]]:
            if not dropped[partner] and views.ranks[partner] < views.ranks[index]:
                tile = views.tiles[partner]
                dropped[index] |= is_cut_towards(views, tiling, index, tile)
        dropped[index] |= _is_fragment(views, tiling, index, dropped, parents)
    return dropped


@compiled
def _is_fragment(
    views: Views, tiling: Tiling, index: int, dropped: NDArray[np.bool_], parents: Indices
) -> bool:
    """Whether a view lies in a larger one of another tile that shows more of the object.

    Its set is united with those of all views that it lies in.
    """
    found = False
    own_row, own_column = divmod(views.tiles[index], len(tiling.columns))
    x_min, y_min, x_max, y_max = views.shapes[0][index]
    x, y = (x_min + x_max) / 2, (y_min + y_max) / 2
    for row in range(*between(tiling.rows, tiling.height, y_min, y_max)):
        if not _is_nearer(y, tiling.rows, own_row, row, tiling.height):
            continue
        for column in range(*between(tiling.columns, tiling.width, x_min, x_max)):
            tile = row * len(tiling.columns) + column
            if tile == views.tiles[index]:
                continue
            if not _is_nearer(x, tiling.columns, own_column, column, tiling.width):
                continue
            for other in views.present[views.starts[tile] : views.starts[tile + 1]]:
                if views.ranks[other] > views.ranks[index]:
                    break
                if overlap(views, index, other) and _is_part(views, tiling, index, other):
                    unite_two(parents, index, other)
                    found |= not dropped[other]
    return found


@compiled
def _is_part(views: Views, tiling: Tiling, index: int, other: int) -> bool:
    """Whether a view lies in another, which reaches beyond the view's tile."""
    row, column = divmod(views.tiles[index], len(tiling.columns))
    other_row, other_column = divmod(views.tiles[other], len(tiling.columns))
    left, top, right, bottom = views.shapes[0][other]
    across = _is_beyond(left, right, tiling.columns, column, other_column, tiling.width)
    down = _is_beyond(top, bottom, tiling.rows, row, other_row, tiling.height)
    if not (across or down):
        return False
    common = intersection_area(views.shapes, index, other)
    return bool(common > 0 and common > WITHIN * views.shapes[1][index])


@compiled
def _is_nearer(centre: float, starts: Indices, own: int, other: int, extent: float) -> bool:
    """Whether a view's centre is nearer to the centre of another tile, along an axis.

    Then no two views of one object are fragments by each other's tile.

    Args:
        centre: Of the view along the axis, px of the full image.
        starts: (n,) first pixels of the tiles along the axis.
        own: Index among them of the view's tile.
        other: Index of the other tile.
        extent: Size of every tile along the axis, px.
    """
    middle = (starts[own] + starts[other] + extent) / 2
    if other > own:
        return bool(centre > middle + TOLERANCE / 2)
    return bool(other == own or centre < middle - TOLERANCE / 2)


@compiled
def _is_beyond(  # noqa: PLR0917 - compiled functions take what they need in place
    low: float, high: float, starts: Indices, own: int, other: int, extent: float
) -> bool:
    """Whether a view of another tile, low to high, reaches beyond the own tile's edge there."""
    if other > own:
        return bool(high > starts[own] + extent + TOLERANCE)
    return bool(other < own and low < starts[own] - TOLERANCE)
