"""The polygons of a raster's classes: filtered, without small holes, simplified together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from tasks.raster.block_store import Place
from tasks.raster.blocks import BLOCK
from tasks.raster.compression import decompress
from tasks.raster.layers import CONFIDENCE, MAP, Layer, stored_layers
from tasks.raster.outlines import Outline, Strip, outlines
from tasks.raster.raster import Raster
from tasks.request.raster_output import Polygons, RasterOutput


@dataclass(frozen=True)
class Polygon:
    """A polygon of one class.

    Attributes:
        geometry: The polygon, in pixels of the image.
        name: Name of the class.
        pixels: Number of pixels of that class in it.
        score: Mean probability (0 to 1) of the class in these pixels; 1 if it is not known.
    """

    geometry: shapely.Geometry
    name: str
    pixels: int
    score: float


def polygons_of(raster: Raster) -> list[Polygon]:
    """The polygons that a request wants of a raster, from the top down, then left to right.

    Raises:
        PublishError: A block cannot be read.
    """
    output = raster.output
    wanted = output.polygons
    assert wanted is not None
    names = _names(output, wanted)
    found = [
        outline
        for outline in outlines(_strips(raster, names))
        if outline.pixels >= wanted.minimum_area
    ]
    found = _simplified(_filled(found, wanted.largest_hole), wanted.tolerance)
    found.sort(key=_first_corner)
    scale = 1.0
    if output.has_probabilities:
        (scale,) = (layer.scale for layer in stored_layers(output) if layer.name == CONFIDENCE)
    return [
        Polygon(each.geometry, names[each.number], each.pixels, min(1.0, each.score * scale))
        for each in found
    ]


def _names(output: RasterOutput, wanted: Polygons) -> dict[int, str]:
    """The name of each class to outline, by its number."""
    names = {one.value: one.name for one in output.classes}
    return {
        number: name
        for number, name in names.items()
        if not wanted.classes or name in wanted.classes
    }


def _strips(raster: Raster, names: Iterable[int]) -> Iterator[Strip]:
    """The raster by rows of blocks."""
    layers = {layer.name: layer for layer in stored_layers(raster.output)}
    width, height = raster.size
    numbers = np.array(sorted(names))
    for row in range(-(-height // BLOCK)):
        rows = min(BLOCK, height - row * BLOCK)
        classes = _row(raster, layers[MAP], row)[:rows, :width]
        scores = np.ones_like(classes)
        if CONFIDENCE in layers:
            scores = _row(raster, layers[CONFIDENCE], row)[:rows, :width]
        yield Strip(row * BLOCK, classes, np.isin(classes, numbers), scores)


def _row(raster: Raster, layer: Layer, row: int) -> NDArray[np.uint8]:
    """(BLOCK, width) a row of blocks of a layer of one band."""
    columns = range(-(-raster.size[0] // BLOCK))
    bodies = raster.blocks.read([Place(layer.name, 0, row, column) for column in columns])
    return np.concatenate([decompress(body, layer)[0] for body in bodies], axis=1)


def _filled(found: Sequence[Outline], largest: float) -> list[Outline]:
    """The outlines without holes of at most so many pixels, and without what lies in them."""
    if not largest:
        return list(found)
    filled: list[shapely.Geometry] = []
    kept = []
    for outline in found:
        holes = shapely.get_rings(outline.geometry)[1:]
        areas = shapely.area(shapely.polygons(holes)) if len(holes) else np.empty(0)
        filled += [shapely.polygons(hole) for hole in holes[areas <= largest]]
        shell = shapely.get_exterior_ring(outline.geometry)
        kept.append(
            replace(outline, geometry=shapely.polygons(shell, list(holes[areas > largest])))
        )
    if not filled:
        return kept
    tree = shapely.STRtree(filled)
    points = shapely.point_on_surface([outline.geometry for outline in kept])
    small = np.array([outline.pixels <= largest for outline in kept])
    inside = np.unique(tree.query(points, predicate="within")[0])
    gone = set(inside[small[inside]].tolist())
    return [outline for at, outline in enumerate(kept) if at not in gone]


def _simplified(found: Sequence[Outline], tolerance: float) -> list[Outline]:
    """The outlines simplified by Visvalingam and Whyatt's algorithm, with common borders kept.

    `shapely.coverage_simplify` (GEOS `CoverageSimplifier`) measures the tolerance as the square
    root of the area of a triangle that is cut off.
    """
    if not tolerance or not found:
        return list(found)
    geometries = shapely.coverage_simplify([each.geometry for each in found], tolerance)
    return [
        replace(each, geometry=geometry)
        for each, geometry in zip(found, geometries, strict=True)
        if not shapely.is_empty(geometry)
    ]


def _first_corner(outline: Outline) -> tuple[float, float, int]:
    """What polygons are sorted by: no two of one class have the same highest left corner."""
    corners = shapely.get_coordinates(outline.geometry)
    first = corners[np.lexsort([corners[:, 0], corners[:, 1]])[0]]
    return float(first[1]), float(first[0]), outline.number
