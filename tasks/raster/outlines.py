"""The exact outlines of the classes of a raster, from strip to strip of an image of any height."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray
from rasterio.transform import Affine

from tasks.raster.absorption import absorb
from tasks.raster.components import REST, Strip, components_of, label

_BATCH = 4096  # polygons whose coordinates are in memory as lists of numbers

_Ring = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Outline:
    """The outline of neighbouring pixels of one class.

    Attributes:
        geometry: A polygon in pixels of the image, with its holes: along the borders of pixels, or
            simplified.
        number: Number of the class.
        pixels: Number of pixels, which is the area of an exact outline.
        score: Mean of the scores of those that have the class in the map.
    """

    geometry: shapely.Geometry
    number: int
    pixels: int
    score: float


def outlines(
    read_strips: Callable[[], Iterable[Strip]], minimum: float = 0, tolerance: float = 0
) -> Iterator[Outline]:
    """Outline the pixels of each class that are neighbours by an edge.

    The areas of exact polygons are the numbers of their pixels. A polygon comes when no further
    strip can change it, so that only those that reach the next strip are in memory.

    Args:
        read_strips: Reads the strips of an image, from the top down, each time it is called. It is
            called twice: first each pixel is assigned to a polygon, then these are outlined.
        minimum: Pixels that a polygon has at least; smaller ones are absorbed (`absorb`).
        tolerance: Of `simplified`; 0 for exact outlines.
    """
    found, strips = components_of(read_strips(), with_borders=minimum > 1)
    if minimum > 1:
        found, group = absorb(found, minimum)
        strips = [group[components] for components in strips]
    last = np.zeros(len(found.classes), np.int64)
    for index, components in enumerate(strips):
        last[components] = index

    def outline(number: int, polygons: list[shapely.Geometry]) -> Outline:
        return Outline(
            _united(polygons),
            int(found.classes[number]),
            int(found.pixels[number]),
            float(found.totals[number] / found.own[number]),
        )

    parts: dict[int, list[shapely.Geometry]] = defaultdict(list)
    for index, (strip, components) in enumerate(zip(read_strips(), strips, strict=True)):
        for number, polygon in _polygons(strip, components, tolerance):
            if last[number] == index and number not in parts:  # the strip has all of it
                yield outline(number, [polygon])
            else:
                parts[number].append(polygon)
        for number in [each for each in parts if last[each] == index]:
            yield outline(number, parts.pop(number))


def _polygons(
    strip: Strip, components: NDArray[np.int64], tolerance: float
) -> Iterator[tuple[int, shapely.Geometry]]:
    """The number of each component of a strip that is outlined, and the polygons of its pixels."""
    labels, _ = label(strip)
    numbers = np.concatenate([[REST], components])[labels].astype(np.int32)
    shapes = rasterio.features.shapes(
        numbers,
        mask=None if tolerance else numbers != REST,
        connectivity=4,
        transform=Affine.translation(0, strip.top),
    )
    most = None if tolerance else _BATCH  # neighbours are simplified together
    while batch := list(islice(shapes, most)):
        polygons = _geometries([shape["coordinates"] for shape, _ in batch])
        owners = [int(number) for _, number in batch]
        del batch  # lists of numbers, which take much more memory
        if tolerance:
            polygons = simplified(polygons, tolerance)
        for polygon, number in zip(polygons, owners, strict=True):
            if number != REST and not shapely.is_empty(polygon):
                yield number, polygon


def _geometries(polygons: Sequence[Sequence[_Ring]]) -> NDArray[np.object_]:
    """Polygons of the coordinates of their rings, the exterior first, all at once."""
    rings = [ring for polygon in polygons for ring in polygon]
    numbers = np.fromiter(chain.from_iterable(chain.from_iterable(rings)), np.float64)
    owners = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    lines = shapely.linearrings(numbers.reshape(-1, 2), indices=owners)
    owners = np.repeat(np.arange(len(polygons)), [len(polygon) for polygon in polygons])
    found: NDArray[np.object_] = shapely.polygons(lines, indices=owners)
    return found


def simplified(polygons: NDArray[np.object_], tolerance: float) -> NDArray[np.object_]:
    """Polygons that fill a rectangle, simplified by Visvalingam and Whyatt's algorithm.

    Neighbours keep their common border, and the rectangle its own: each strip of an image is
    simplified by itself, and those above and below it fit. `shapely.coverage_simplify` (GEOS
    `CoverageSimplifier`) measures the tolerance as the square root of the area of a triangle that
    is cut off. A polygon inside another that has less than that area comes to be empty.

    Args:
        polygons: (n,) along the borders of pixels.
        tolerance: In pixels.
    """
    # neighbours must have the same vertices along a common border: one at every pixel's corner
    exact = shapely.transform(shapely.segmentize(polygons, 1.0), np.rint)
    found: NDArray[np.object_] = shapely.coverage_simplify(
        exact, tolerance, simplify_boundary=False
    )
    return found


def _united(parts: list[shapely.Geometry]) -> shapely.Geometry:
    """One polygon of the parts of a component in each strip."""
    if len(parts) == 1:
        return parts[0]
    # no hole of a part reaches another strip or has another part in it: a union of shells alone
    # takes a fraction of the memory
    shells = shapely.union_all(shapely.polygons(shapely.get_exterior_ring(parts)))
    # where strips meet, straight edges have a vertex
    shell, *holes = shapely.get_rings(shapely.simplify(shells, 0.0))
    for part in parts:
        holes.extend(shapely.get_rings(part)[1:])
    return shapely.polygons(shell, holes or None)
