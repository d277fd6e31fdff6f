"""The connected components of a class map of any height, and the borders between them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

REST = 0
"""The component of all pixels that are not outlined, and of nothing else."""

_ENDLESS = 1 << 60  # pixels that count for the rest: it is never too small


@dataclass(frozen=True)
class Strip:
    """Rows of a class map, as wide as the image.

    Attributes:
        top: The first row, in pixels of the image.
        classes: (rows, width) numbers of classes.
        wanted: (rows, width) the pixels to outline.
        scores: (rows, width) whole numbers whose mean over a polygon is its score.
    """

    top: int
    classes: NDArray[np.unsignedinteger]
    wanted: NDArray[np.bool_]
    scores: NDArray[np.unsignedinteger]


@dataclass(frozen=True)
class Borders:
    """How many edges of pixels components have in common.

    Attributes:
        pairs: (m, 2) components, the lower number first, each pair once and in ascending order.
        lengths: (m,) their common edges.
    """

    pairs: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, pairs: NDArray[np.int64], lengths: NDArray[np.int64]) -> Self:
        """Add up the lengths of each pair; the pairs are in any order, repeated or of one."""
        low, high = pairs.min(axis=1), pairs.max(axis=1)
        apart = low != high
        keys, where = np.unique(low[apart] << 32 | high[apart], return_inverse=True)
        sums = np.bincount(where, lengths[apart], minlength=len(keys)).astype(np.int64)
        return cls(np.stack([keys >> 32, keys & 0xFFFFFFFF], axis=1), sums)


@dataclass(frozen=True)
class Components:
    """Neighbouring pixels of one class, numbered from 1; number 0 is `REST`.

    Attributes:
        classes: (n,) number of the class; -1 for the rest.
        pixels: (n,) number of pixels, which counts as endless for the rest.
        own: (n,) number of those that have the class in the map.
        totals: (n,) sum of the scores of these.
        borders: The borders between components; the image's own border is none.
    """

    classes: NDArray[np.int64]
    pixels: NDArray[np.int64]
    own: NDArray[np.int64]
    totals: NDArray[np.int64]
    borders: Borders

    def joined(self, links: NDArray[np.int64]) -> tuple[Components, NDArray[np.int64]]:
        """Make one of those that are linked; it has the class of the largest of them.

        Args:
            links: (k, 2) components.

        Returns:
            The components, numbered in the order of their first ones, and (n,) their numbers.
        """
        count, group = connected(len(self.classes), links)
        order = np.lexsort([-self.pixels, group])
        largest = order[np.unique(group[order], return_index=True)[1]]
        classes = self.classes[largest]
        same = self.classes == classes[group]

        def summed(values: NDArray[np.int64]) -> NDArray[np.int64]:
            return np.bincount(group, values, minlength=count).astype(np.int64)

        pixels = summed(np.where(self.pixels == _ENDLESS, 0, self.pixels))
        pixels[REST] = _ENDLESS
        own, totals = summed(self.own * same), summed(self.totals * same)
        borders = Borders.of(group[self.borders.pairs], self.borders.lengths)
        return Components(classes, pixels, own, totals, borders), group


def connected(count: int, links: NDArray[np.int64]) -> tuple[int, NDArray[np.int64]]:
    """How many groups links make of things, and the (count,) group of each, by the first of each.

    Args:
        count: Number of things.
        links: (k, 2) things that belong together.
    """
    # late: the import is slow, and most jobs outline nothing
    from scipy.sparse import coo_array  # noqa: PLC0415
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    ones = np.ones(len(links), np.int8)
    graph = coo_array((ones, (links[:, 0], links[:, 1])), shape=(count, count))
    found, group = connected_components(graph, directed=False)
    return int(found), group.astype(np.int64)


def components_of(
    strips: Iterable[Strip], *, with_borders: bool
) -> tuple[Components, list[NDArray[np.int64]]]:
    """The components of an image: pixels of one class that are neighbours by an edge.

    Args:
        strips: The strips of an image, from the top down.
        with_borders: Whether the borders are measured; if not, there are none.

    Returns:
        The components, and of each strip the component of each of its labels (`label`).
    """
    none = np.zeros((0, 2), np.int64)
    columns = [_Columns(np.array([-1]), np.array([_ENDLESS]), np.array([0]))]
    links, pairs, lengths = [none], [none], [np.zeros(0, np.int64)]
    above: tuple[NDArray[np.int64], NDArray[np.unsignedinteger]] | None = None
    ends = [1]
    for strip in strips:
        labels, count = label(strip)
        columns.append(_Columns.of(strip, labels, count))
        numbers = np.where(labels > 0, labels + (ends[-1] - 1), REST)
        rows = numbers
        if above is not None:
            rows = np.concatenate([above[0][np.newaxis], numbers])
            same = (above[1] == strip.classes[0]) & (rows[0] > 0) & (rows[1] > 0)
            links.append(np.unique(rows[:2, same].T, axis=0))
        if with_borders:
            edges = np.concatenate(
                [_unequal(numbers[:, :-1], numbers[:, 1:]), _unequal(rows[:-1], rows[1:])]
            )
            borders = Borders.of(edges, np.ones(len(edges), np.int64))
            pairs.append(borders.pairs)
            lengths.append(borders.lengths)
        above = numbers[-1], strip.classes[-1]
        ends.append(ends[-1] + count)
    classes, pixels, totals = (np.concatenate(each) for each in zip(*columns, strict=True))
    borders = Borders(np.concatenate(pairs), np.concatenate(lengths))
    whole, group = Components(classes, pixels, pixels, totals, borders).joined(
        np.concatenate(links)
    )
    return whole, [group[first:stop] for first, stop in pairwise(ends)]


def label(strip: Strip) -> tuple[NDArray[np.int64], int]:
    """The components of a strip alone.

    Returns:
        (rows, width) number of each pixel's, from 1 in the order of their first pixels, 0 for
        pixels that are not wanted; and how many there are.
    """
    classes, wanted = strip.classes, strip.wanted
    starts = np.ones(classes.shape, bool)  # of runs of one class along a row
    starts[:, 1:] = (classes[:, 1:] != classes[:, :-1]) | (wanted[:, 1:] != wanted[:, :-1])
    runs = np.cumsum(starts.ravel()).reshape(starts.shape) - 1
    below = (classes[1:] == classes[:-1]) & wanted[1:] & wanted[:-1]
    below[:, 1:] &= starts[1:, 1:] | starts[:-1, 1:]  # once for two runs
    links = np.stack([runs[:-1][below], runs[1:][below]], axis=1)
    _, group = connected(int(runs[-1, -1]) + 1, links)
    used = np.unique(group[wanted[starts]])
    numbers = np.zeros(len(group), np.int64)
    numbers[used] = np.arange(1, len(used) + 1)
    return numbers[group][runs], len(used)


class _Columns(NamedTuple):
    """The attributes of components of that name."""

    classes: NDArray[np.int64]
    pixels: NDArray[np.int64]
    totals: NDArray[np.int64]

    @classmethod
    def of(cls, strip: Strip, labels: NDArray[np.int64], count: int) -> Self:
        """Measure the components of a strip."""
        flat = labels.ravel()
        classes = np.zeros(count + 1, np.int64)
        classes[flat] = strip.classes.ravel()
        pixels = np.bincount(flat, minlength=count + 1)
        totals = np.bincount(flat, strip.scores.ravel(), minlength=count + 1).astype(np.int64)
        return cls(classes[1:], pixels[1:], totals[1:])


def _unequal(ones: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """(k, 2) the numbers on both sides of each edge between different ones."""
    apart = ones != others
    return np.stack([ones[apart], others[apart]], axis=1)
