"""Which views of two overlapping tiles show one object: matched one to one, the best first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tasks.merge.compiled import compiled
from tasks.merge.cut_objects.agreement import agreement
from tasks.merge.cut_objects.edges import Tiling
from tasks.merge.cut_objects.views import Indices, Views, between, overlap, set_shared_area
from tasks.merge.deferral import unite_two


@compiled
def match(
    views: Views, tiling: Tiling, representatives: Indices, least: float, parents: Indices
) -> tuple[Indices, NDArray[np.float64]]:
    """Match the views of each two tiles that overlap.

    Two views of one label may be of one object if they agree, within the area that both tiles show,
    above a threshold. Of these pairs, the one that agrees best is matched first (ties: the larger
    view of the tile with the lower index, then that of the other tile), and no view is matched with
    two of one tile. So two objects side by side, which both tiles show, are not taken for one.

    Args:
        views: All views.
        tiling: The tiles.
        representatives: (n,) the view of the same tile that stands for each; only these are
            matched.
        least: Agreement above which two views may be of one object.
        parents: (n,) disjoint sets, see `tasks.merge.deferral`. The sets of two views that may be
            of one object are united.

    Returns:
        (k, 2) matched views, the one of the tile with the lower index first; (k,) their agreement.
    """
    found = [(0, 0, 0.0)]
    found.clear()
    taken = np.full(len(views.tiles), -1)
    across = len(tiling.columns)
    for tile in range(len(views.starts) - 1):
        if views.starts[tile] == views.starts[tile + 1]:
            continue
        row, column = divmod(tile, across)
        top, left = tiling.rows[row], tiling.columns[column]
        for beside_row in range(*between(tiling.rows, tiling.height, top, top + tiling.height)):
            for beside_column in range(
                *between(tiling.columns, tiling.width, left, left + tiling.width)
            ):
                beside = beside_row * across + beside_column
                if beside <= tile or views.starts[beside] == views.starts[beside + 1]:
                    continue
                set_shared_area(views, tiling, tile, beside)
                here = _in_shared_area(views, tile, representatives)
                there = _in_shared_area(views, beside, representatives)
                _match(views, here, there, least, parents, taken, found)
    pairs, agreed = np.empty((len(found), 2), np.int64), np.empty(len(found))
    for k, (first, second, ratio) in enumerate(found):
        pairs[k, 0], pairs[k, 1], agreed[k] = first, second, ratio
    return pairs, agreed


@compiled
def _in_shared_area(views: Views, tile: int, representatives: Indices) -> Indices:
    """The representatives among a tile's views that reach into the shared area, largest first."""
    own = views.present[views.starts[tile] : views.starts[tile + 1]]
    bounds, found, count = views.shapes[0], np.empty(len(own), np.int64), 0
    x_min, y_min, x_max, y_max = bounds[-1]
    for index in own:
        if representatives[index] == index:
            across = bounds[index, 0] < x_max and x_min < bounds[index, 2]
            if across and bounds[index, 1] < y_max and y_min < bounds[index, 3]:
                found[count] = index
                count += 1
    return found[:count]


@compiled
def _match(  # noqa: PLR0917 - compiled functions take what they need in place
    views: Views,
    here: Indices,
    there: Indices,
    least: float,
    parents: Indices,
    taken: Indices,
    found: list[tuple[int, int, float]],
) -> None:
    """Match views of two tiles, and append the pairs to those found.

    Args:
        views: All views; the last shape is the area that the two tiles share.
        here: (h,) views of the one tile.
        there: (t,) views of the other.
        least: Agreement above which two may be of one object.
        parents: (n,) disjoint sets.
        taken: (n,) the tile with one of whose views each was matched last, or −1.
        found: Pairs of matched views, and their agreement.
    """
    pairs = [(0.0, 0, 0)]
    pairs.clear()
    for first in here:
        for second in there:
            if overlap(views, first, second):
                agreed = agreement(views, first, second)
                if agreed > least:
                    pairs.append((-agreed, first, second))
                    unite_two(parents, first, second)
    if len(pairs) == 0:
        return
    order = np.argsort(np.array([pair[0] for pair in pairs]), kind="mergesort")
    for k in order:
        ratio, first, second = pairs[k]
        if taken[first] != views.tiles[second] and taken[second] != views.tiles[first]:
            taken[first], taken[second] = views.tiles[second], views.tiles[first]
            found.append((first, second, -ratio))
