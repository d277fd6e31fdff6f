"""The polygons of a raster's classes: without small ones and small holes, simplified together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from tasks.raster.block_store import Place
from tasks.raster.blocks import BLOCK
from tasks.raster.components import Strip
from tasks.raster.layers import CONFIDENCE, MAP, Layer, stored_layers
from tasks.raster.outlines import Outline, outlines
from tasks.raster.raster import Raster
from tasks.raster.right_angles import right_angled
from tasks.request.raster_output import Polygons, RasterOutput

_STRIP_PIXELS = 1 << 22  # that are outlined together


@dataclass(frozen=True)
class Polygon:
    """A polygon of one class.

    Attributes:
        geometry: The polygon, in pixels of the image.
        name: Name of the class.
        score: Mean probability (0 to 1) of the class in its pixels; 1 if it is not known.
        place: What polygons are sorted by, from the top down, then left to right: y and x of its
            highest left corner, and the number of the class. No two have the same.
    """

    geometry: shapely.Geometry
    name: str
    score: float
    place: tuple[float, float, int]


def polygons_of(raster: Raster) -> Iterator[Polygon]:
    """The polygons that a request wants of a raster, each when it is complete.

    Raises:
        PublishError: A block cannot be read.
    """
    output = raster.output
    wanted = output.polygons
    assert wanted is not None
    names = _names(output, wanted)
    found = outlined(lambda: _strips(raster, names), wanted, raster.size)
    scale = 1.0
    if output.has_probabilities:
        (scale,) = (layer.scale for layer in stored_layers(output) if layer.name == CONFIDENCE)
    for each in found:
        score = min(1.0, each.score * scale)
        yield Polygon(each.geometry, names[each.number], score, _place(each))


def outlined(
    read_strips: Callable[[], Iterable[Strip]], wanted: Polygons, size: tuple[int, int]
) -> Iterator[Outline]:
    """The outlines of a class map as a request wants them, each when it is complete.

    With holes to fill all of them are in memory until the end, about 3 KB each.

    Args:
        read_strips: As for `outlines`.
        wanted: What is done with the exact outlines.
        size: Width and height of the map in pixels.
    """
    tolerance = 0.0 if wanted.right_angles else wanted.tolerance
    found = outlines(read_strips, wanted.minimum_area, tolerance)
    if wanted.largest_hole:
        found = iter(_filled(list(found), wanted.largest_hole))
    for each in found:
        if wanted.right_angles:
            yield replace(each, geometry=right_angled(each.geometry, wanted.tolerance, size))
        else:
            yield each


def _names(output: RasterOutput, wanted: Polygons) -> dict[int, str]:
    """The name of each class to outline, by its number."""
    names = {one.value: one.name for one in output.classes}
    return {
        number: name
        for number, name in names.items()
        if not wanted.classes or name in wanted.classes
    }


def _strips(raster: Raster, names: Collection[int]) -> Iterator[Strip]:
    """The raster from the top down, in strips of a bounded size."""
    layers = {layer.name: layer for layer in stored_layers(raster.output)}
    width, height = raster.size
    numbers = np.array(sorted(names))
    strip = max(1, min(BLOCK, _STRIP_PIXELS // width))
    for row in range(-(-height // BLOCK)):
        rows = min(BLOCK, height - row * BLOCK)
        classes = _row(raster, layers[MAP], row)[:rows, :width]
        scores = np.ones_like(classes)
        if CONFIDENCE in layers:
            scores = _row(raster, layers[CONFIDENCE], row)[:rows, :width]
        for top in range(0, rows, strip):
            part = classes[top : top + strip]
            wanted = np.isin(part, numbers)
            yield Strip(row * BLOCK + top, part, wanted, scores[top : top + strip])


def _row(raster: Raster, layer: Layer, row: int) -> NDArray[np.uint8]:
    """(BLOCK, width) a row of blocks of a layer of one band."""
    columns = range(-(-raster.size[0] // BLOCK))
    blocks = raster.read(layer, [Place(layer.name, 0, row, column) for column in columns])
    return np.concatenate([block[0] for block in blocks], axis=1)


def _filled(found: list[Outline], largest: float) -> list[Outline]:
    """The outlines without holes of at most so many pixels, and without what lies in them."""
    filled: list[shapely.Geometry] = []
    kept = []
    for outline in found:
        holes = shapely.get_rings(outline.geometry)[1:]
        areas = shapely.area(shapely.polygons(holes)) if len(holes) else np.empty(0)
        filled += [shapely.polygons(hole) for hole in holes[areas <= largest]]
        shell = shapely.get_exterior_ring(outline.geometry)
        kept.append(
            replace(outline, geometry=shapely.polygons(shell, list(holes[areas > largest]) or None))
        )
    if not filled:
        return kept
    tree = shapely.STRtree(filled)
    points = shapely.point_on_surface([outline.geometry for outline in found])
    gone = set(tree.query(points, predicate="within")[0].tolist())
    return [outline for at, outline in enumerate(kept) if at not in gone]


def _place(outline: Outline) -> tuple[float, float, int]:
    corners = shapely.get_coordinates(outline.geometry)
    first = corners[np.lexsort([corners[:, 0], corners[:, 1]])[0]]
    return float(first[1]), float(first[0]), outline.number
