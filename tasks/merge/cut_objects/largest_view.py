"""Objects larger than the overlap of tiles: of all tiles' views, the largest stays.

No tile may show such an object whole. So views of two tiles are matched by what both tiles show
(`tasks.merge.cut_objects.matching`), and of each match that an edge cuts, the smaller is dropped.
A detector may end its box before that edge: of a close match, the smaller is also dropped if the
larger one reaches the edge.

What lies in a larger view and does not match it stays. It may be a fragment of the object, or an
object of its own that the other tile does not report: `Measure.IOS` takes all these for fragments.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.grid.tiles import Grid
from tasks.merge.compiled import compiled
from tasks.merge.cut_objects.edges import Tiling
from tasks.merge.cut_objects.matching import match
from tasks.merge.cut_objects.views import Indices, Views, is_cut, views_of
from tasks.merge.deferral import DROPPED, UNDECIDED, roots
from tasks.merge.shapes import Shapes

SHARED_IOU = 0.6
"""Intersection over union within the shared area above which two views may be of one object.

A lower value loses large objects whose boxes cross; a higher one leaves duplicates of detectors
whose boxes are a few percent off: `tests/benchmarks/test_cut_objects.py` measures both.
"""

CLOSE = 0.8
"""Agreement above which an edge may also cut a view that ends before it."""


def keep_largest_views(  # noqa: PLR0917 - the columns of the detections
    shapes: Shapes,
    labels: Indices,
    scores: NDArray[np.float64],
    tiles: Indices,
    grid: Grid,
    decisions: NDArray[np.uint8],
    iou: float = SHARED_IOU,
    representatives: Indices | None = None,
    matched: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Drop each detection that is a part of what another tile shows more of.

    Detections are visited by area, largest first, ties by score, highest first, then by index. A
    detection is dropped if one visited before, of the same label, from another tile and not
    dropped, is matched with its representative, and it touches an edge with a tile beyond it. If
    both agree closely, it is enough that the other one reaches that edge.

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
        matched: (n,) DROPPED detections that take part in the matching: what another tile shows of
            the same object is then not taken for a part of a neighbour.

    Returns:
        (n,) DROPPED, KEPT or UNDECIDED; UNDECIDED ones are unchanged, and so are DROPPED ones that
        take no part in the matching.
    """
    dropped = decisions == DROPPED
    takes_part = ~dropped if matched is None else ~dropped | matched
    present = np.flatnonzero(takes_part)
    by_area = present[np.lexsort((-scores[present], -shapes.areas[present]))]
    views = views_of(shapes, labels, tiles, by_area, len(grid))
    tiling, parents = Tiling.of(grid), np.arange(len(shapes))
    if representatives is None:
        representatives = np.arange(len(shapes))
    partners = _partners(*match(views, tiling, representatives, iou, parents), len(shapes))
    _visit(by_area, views, tiling, representatives, partners, dropped)
    found = np.where(dropped, DROPPED, decisions).astype(np.uint8)
    undecided = np.flatnonzero(decisions == UNDECIDED)
    if len(undecided):
        sets = roots(parents, np.arange(len(shapes)))
        found[np.isin(sets, sets[undecided]) & takes_part] = UNDECIDED
    return found


class _Partners(NamedTuple):
    """What n views are matched with.

    Attributes:
        starts: (n + 1,) the partners of view i are views[starts[i] : starts[i + 1]].
        views: (2 k,) of k matches, both ways.
        close: (2 k,) whether the two agree above `CLOSE`.
    """

    starts: Indices
    views: Indices
    close: NDArray[np.bool_]


def _partners(pairs: Indices, agreed: NDArray[np.float64], count: int) -> _Partners:
    """The partners of n views, of matches as returned by `match`."""
    one, other = np.concatenate([pairs, pairs[:, ::-1]]).T
    order = np.argsort(one, kind="stable")
    starts = np.searchsorted(one[order], np.arange(count + 1))
    return _Partners(starts, other[order], np.tile(agreed > CLOSE, 2)[order])


@compiled
def _visit(  # noqa: PLR0917 - compiled functions take what they need in place
    by_area: Indices,
    views: Views,
    tiling: Tiling,
    representatives: Indices,
    partners: _Partners,
    dropped: NDArray[np.bool_],
) -> None:
    """Visit the views by area; set those dropped that show less of an object than one before.

    Args:
        by_area: (m,) the views.
        views: All views.
        tiling: The tiles.
        representatives: (n,) of the views.
        partners: Of the representatives.
        dropped: (n,) views that are dropped, updated.
    """
    for index in by_area:
        shown = representatives[index]
        for k in range(partners.starts[shown], partners.starts[shown + 1]):
            larger = partners.views[k]
            if not dropped[larger] and views.ranks[larger] < views.ranks[index]:
                dropped[index] |= is_cut(views, tiling, index, larger, partners.close[k])
