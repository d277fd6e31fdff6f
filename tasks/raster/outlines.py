"""The exact outlines of the classes of a raster, from strip to strip of an image of any height."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray
from rasterio.transform import Affine


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
class Outline:
    """The outline of neighbouring pixels of one class.

    Attributes:
        geometry: A polygon along the borders of pixels, in pixels of the image, with its holes.
        number: Number of the class.
        pixels: Number of pixels, which is its area.
        score: Mean of the scores of the pixels.
    """

    geometry: shapely.Geometry
    number: int
    pixels: int
    score: float


@dataclass(eq=False)
class _Open:
    """A polygon that may go on in the next strip, or one that has become a part of another."""

    number: int
    parts: list[shapely.Geometry]
    pixels: int
    total: int
    whole: _Open | None = None

    def found(self) -> _Open:
        """The polygon that it is a part of by now, or itself."""
        at = self
        while at.whole is not None:
            if at.whole.whole is not None:
                at.whole = at.whole.whole
            at = at.whole
        return at

    def join(self, other: _Open) -> None:
        """Make one polygon of two."""
        small, large = sorted((self.found(), other.found()), key=lambda each: len(each.parts))
        if small is not large:
            small.whole = large
            large.parts += small.parts
            large.pixels += small.pixels
            large.total += small.total

    def closed(self) -> Outline:
        if len(self.parts) == 1:
            (geometry,) = self.parts
        else:  # where strips meet, straight edges have a vertex
            geometry = shapely.simplify(shapely.union_all(self.parts), 0.0)
        return Outline(geometry, self.number, self.pixels, self.total / self.pixels)


def outlines(strips: Iterable[Strip]) -> Iterator[Outline]:
    """Outline the pixels of each class that are neighbours by an edge.

    The areas of the polygons are the numbers of their pixels. A polygon comes when no further
    strip can change it.

    Args:
        strips: The strips of an image, from the top down; the next one is asked for when the one
            before has been outlined.
    """
    above: dict[int, _Open] = {}  # those that go on, by their label in the last row
    last: NDArray[np.int32] | None = None
    for strip in strips:
        polygons, labels = _label(strip)
        if last is not None:
            for upper, lower in _neighbours(last, labels[0]):
                if above[upper].number == polygons[lower].number:
                    above[upper].join(polygons[lower])
        last = labels[-1]
        here = {label: polygons[label] for label in np.unique(last[last > 0]).tolist()}
        going_on = {each.found() for each in here.values()}
        known = dict.fromkeys(each.found() for each in (*above.values(), *polygons.values()))
        yield from (each.closed() for each in known if each not in going_on)
        above = here
    yield from (each.closed() for each in dict.fromkeys(each.found() for each in above.values()))


def _neighbours(upper: NDArray[np.int32], lower: NDArray[np.int32]) -> list[tuple[int, int]]:
    """The labels above and below each edge between two rows, each pair once."""
    both = (upper > 0) & (lower > 0)
    pairs = np.unique(np.stack([upper[both], lower[both]]), axis=1)
    return [(above, below) for above, below in pairs.T.tolist()]


def _label(strip: Strip) -> tuple[dict[int, _Open], NDArray[np.int32]]:
    """The polygons of a strip by label, and (rows, width) the label of each pixel, 0 for none."""
    shapes = list(
        rasterio.features.shapes(
            strip.classes.astype(np.int32),
            mask=strip.wanted,
            connectivity=4,
            transform=Affine.translation(0, strip.top),
        )
    )
    if not shapes:
        return {}, np.zeros(strip.classes.shape, np.int32)
    labels: NDArray[np.int32] = rasterio.features.rasterize(
        [(shape, label) for label, (shape, _) in enumerate(shapes, start=1)],
        out_shape=strip.classes.shape,
        transform=Affine.translation(0, strip.top),
        dtype=np.int32,
    )
    flat = labels.ravel()
    pixels = np.bincount(flat, minlength=len(shapes) + 1)
    totals = np.bincount(flat, strip.scores.ravel(), minlength=len(shapes) + 1)
    polygons = {
        label: _Open(
            int(number), [shapely.geometry.shape(shape)], int(pixels[label]), int(totals[label])
        )
        for label, (shape, number) in enumerate(shapes, start=1)
    }
    return polygons, labels
